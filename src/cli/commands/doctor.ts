// doctor: whether this host can run boxes, and what is missing where it cannot. It tries things out; it changes
// nothing. Its exit code says whether the chosen driver works.
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { loadConfig, type Config, type DriverName } from '../../shared/settings/config.ts';
import { makeStateDirectories } from '../../shared/settings/state-dir.ts';
import { errorText } from '../../shared/errors.ts';
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printJson } from '../render/render.ts';

const drivers: readonly DriverName[] = ['boxlite', 'container'];

/** What the container driver and image imports use, and the Debian package that has it. */
const tools: readonly (readonly [string, string])[] = [
  ['crun', 'crun'],
  ['runc', 'runc (instead of crun)'],
  ['skopeo', 'skopeo'],
  ['umoci', 'umoci'],
  ['zstd', 'zstd'],
  ['busybox', 'busybox-static'],
  ['catatonit', 'catatonit'],
  ['slirp4netns', 'slirp4netns'],
  ['nft', 'nftables'],
  ['iptables', 'iptables'],
  ['setpriv', 'util-linux'],
  ['flock', 'util-linux'],
  ['unshare', 'util-linux'],
];

/** One thing that was looked at; `good` is null where it is no matter of good or bad. */
export interface Finding {
  readonly good: boolean | null;
  readonly what: string;
  readonly problems?: readonly string[];
}

type Say = (good: boolean | null, what: string, problems?: readonly string[]) => void;

export const doctorCommand = defineCommand({
  name: 'doctor',
  describe: 'tell whether this host can run boxes, and what is missing',
  options: {
    driver: {
      type: 'text',
      choices: ['boxlite', 'container'],
      describe: 'the driver that must work',
      shownDefault: 'BOXRUN_DRIVER, else boxlite',
    },
    fresh: { type: 'flag', describe: 'try the drivers again, even if a kept answer still holds' },
    json: jsonOption,
  },
  examples: [['doctor --driver container', 'exit code 0 when containers work here']],
  async run({ driver, fresh, json }) {
    const config = loadConfig({ driver });
    const findings: Finding[] = [];
    const say: Say = (good, what, problems = []) => {
      findings.push({ good, what, problems });
      if (json) return;
      process.stdout.write(`${good === null ? '  --  ' : good ? '  ok  ' : '  NO  '}${what}\n`);
      for (const problem of problems) process.stdout.write(`        ${problem}\n`);
    };
    const works = await examine(config, say, fresh);
    if (json) printJson({ ok: works, driver: config.driver, findings });
    else if (!works && config.driver === 'boxlite') {
      process.stdout.write(
        'Boxes can run as containers instead, less isolated from the host: boxrun serve --driver container\n',
      );
    }
    return works ? 0 : 1;
  },
});

/** True when the chosen driver works. */
export async function examine(config: Config, say: Say, fresh = false): Promise<boolean> {
  sayNode(say);
  if (!sayStateDirectory(config, say)) return false;
  say(null, `limits: ${config.maxCpu} CPUs, ${config.maxMemoryMb} MiB over all boxes`);
  for (const [tool, source] of tools) {
    const path = findTool(tool);
    say(path === null ? null : true, path === null ? `${tool} is not there; package ${source}` : `${tool}: ${path}`);
  }
  sayKvm(say);
  await sayServiceGroup(config, say);
  const { probeDriver } = await import('../heavy.ts');
  let chosenWorks = false;
  for (const driver of drivers) {
    const chosen = driver === config.driver;
    const { ok, problems, isKept } = await probeDriver({ ...config, driver }, { fresh });
    if (chosen) chosenWorks = ok;
    const verdict = `${ok ? 'works' : 'does not work here'}${isKept ? ' (tried earlier; `boxrun doctor --fresh` tries again)' : ''}`;
    say(ok ? true : chosen ? false : null, `driver ${driver}${chosen ? ' (chosen)' : ''}: ${verdict}`, problems);
  }
  return chosenWorks;
}

function sayNode(say: Say): void {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const good = major > 20 || (major === 20 && minor >= 19);
  say(
    good,
    `Node ${process.versions.node}${good ? '' : '; 20.19 or newer is needed'} on ${process.platform} ${process.arch}`,
  );
}

function sayStateDirectory({ stateDir }: Config, say: Say): boolean {
  try {
    makeStateDirectories(stateDir);
    accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK);
    say(true, `state directory ${stateDir}`);
    return true;
  } catch (error) {
    say(false, `state directory ${stateDir}: ${errorText(error)}`);
    return false;
  }
}

function sayKvm(say: Say): void {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    say(null, '/dev/kvm is there and opens, which is no proof yet: see driver boxlite');
  } catch (error) {
    say(null, `/dev/kvm: ${errorText(error)}; the boxlite driver needs it`);
  }
}

/** Of a server that were started from here. */
async function sayServiceGroup({ stateDir }: Config, say: Say): Promise<void> {
  try {
    const { tryToLeave } = await import('../heavy.ts');
    const place = await tryToLeave(stateDir);
    if (place === null) say(null, 'nobody ends this by its control group, so boxes need not leave it');
    else say(true, `boxes leave the control group of the server (tried: ${place})`);
  } catch (error) {
    say(null, 'boxes stay in the control group of the server, and end with it', [
      errorText(error),
      'in the unit of a service, KillMode=process keeps them running; `boxrun service install` writes such a unit',
    ]);
  }
}

function findTool(name: string): string | null {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not in this directory.
    }
  }
  return null;
}
