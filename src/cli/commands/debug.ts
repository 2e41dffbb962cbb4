// debug bundle: packs what a bug report needs into one file. The packing is in ../debug-bundle.ts, loaded when it is
// asked for. It works with the server up, down or hanging, and changes nothing.
import { writeFileSync } from 'node:fs';
import { loadConfig } from '../../shared/settings/config.ts';
import { defineCommand } from '../parsing/command.ts';
import { printLines } from '../render/render.ts';
import { examine, type Finding } from './doctor.ts';

const bundleCommand = defineCommand({
  name: 'bundle',
  describe: 'pack logs, versions, findings and states into one file, without secrets',
  options: {
    output: {
      type: 'text',
      alias: 'o',
      kind: 'file',
      describe: 'the file to write',
      shownDefault: 'boxrun-debug-TIME.tar.gz',
    },
  },
  examples: [['debug bundle -o report.tar.gz', 'what a bug report needs']],
  async run({ output }, { version }) {
    const path = output ?? `boxrun-debug-${new Date().toISOString().replace(/[:.]/g, '-')}.tar.gz`;
    const config = loadConfig();
    const { packBundle } = await import('../heavy.ts');
    const bundle = await packBundle(config, version, async () => {
      const findings: Finding[] = [];
      const works = await examine(config, (good, what, problems = []) => findings.push({ good, what, problems }));
      return { driver: config.driver, works, findings };
    });
    writeFileSync(path, bundle, { mode: 0o600 });
    printLines(path);
    return 0;
  },
});

export const debugCommand = defineCommand({
  name: 'debug',
  describe: 'help with finding out what is wrong',
  subcommands: [bundleCommand],
  examples: [['debug bundle', 'pack what a bug report needs']],
  run: async () => {
    printLines('boxrun debug bundle packs what a bug report needs; see --help');
    return 0;
  },
});
