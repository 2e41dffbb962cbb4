// The command debug bundle: writes one file with everything that a bug report needs (see server/debug-bundle.ts).
// It works if the server runs, hangs or is down. It also runs doctor, which writes files in the state directory.
import { writeFileSync } from 'node:fs';
import { loadConfig } from '../../shared/settings/config.ts';
import { defineCommand } from '../parsing/command.ts';
import { printLines } from '../render/render.ts';
import { examine, type Finding } from './doctor.ts';

const bundleCommand = defineCommand({
  name: 'bundle',
  describe: 'write logs, versions, findings of doctor, and states into one file, without secrets',
  options: {
    output: {
      type: 'text',
      alias: 'o',
      kind: 'file',
      describe: 'file to write',
      shownDefault: 'boxrun-debug-TIME.tar.gz',
    },
  },
  examples: [['debug bundle -o report.tar.gz', 'a file for a bug report']],
  async run({ output }, { version }) {
    const path = output ?? `boxrun-debug-${new Date().toISOString().replace(/[:.]/g, '-')}.tar.gz`;
    const config = loadConfig();
    const { createWaitNotice } = await import('../render/waiting.ts');
    const notice = createWaitNotice('collecting logs, states and the findings of doctor');
    try {
      const { packBundle } = await import('../heavy.ts');
      const bundle = await packBundle(config, version, async () => {
        const findings: Finding[] = [];
        const works = await examine(config, (good, what, problems = []) => findings.push({ good, what, problems }));
        return { driver: config.driver, works, findings };
      });
      writeFileSync(path, bundle, { mode: 0o600 });
    } finally {
      notice.end();
    }
    printLines(path);
    return 0;
  },
});

export const debugCommand = defineCommand({
  name: 'debug',
  describe: 'collect information for a bug report',
  subcommands: [bundleCommand],
  examples: [['debug bundle', 'a file for a bug report']],
  run: async () => {
    printLines('boxrun debug bundle writes a file for a bug report; see --help');
    return 0;
  },
});
