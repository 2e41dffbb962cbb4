// doctor: whether this host can run boxes, and what is missing where it cannot. It tries things out; it changes nothing.
import { accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { loadConfig, stateDirectories, type Config, type DriverName } from '../../shared/config.ts';
import { probeDriver } from '../../shared/driver-probe.ts';
import { errorText } from '../../shared/errors.ts';
import { refuseCommand, type CommandContext, type Parser } from '../context.ts';

const drivers: readonly DriverName[] = ['boxlite', 'container'];

/** What the container driver and image imports use, and the Debian package that has it. */
const tools: readonly (readonly [string, string])[] = [
  ['crun', 'crun'], ['runc', 'runc (instead of crun)'], ['skopeo', 'skopeo'], ['umoci', 'umoci'], ['busybox', 'busybox-static'],
  ['catatonit', 'catatonit'], ['slirp4netns', 'slirp4netns'], ['nft', 'nftables'], ['iptables', 'iptables'],
  ['setpriv', 'util-linux'], ['flock', 'util-linux'], ['unshare', 'util-linux'],
];

type Say = (good: boolean | null, what: string) => void;

export function addDoctorCommand(parser: Parser, context: CommandContext): void {
  parser.command(
    'doctor',
    'tell whether this host can run boxes, and what is missing',
    (command) =>
      command
        .option('driver', { choices: drivers, describe: 'the driver that must work', defaultDescription: 'BOXRUN_DRIVER, else boxlite' })
        .example('$0 doctor --driver container', 'exit code 0 when containers work here'),
    context.run(async ({ driver }) => {
      refuseCommand(context);
      return examine(loadConfig({ driver }));
    }),
  );
}

async function examine(config: Config): Promise<number> {
  const say: Say = (good, what) => process.stdout.write(`${good === null ? '  --  ' : good ? '  ok  ' : '  NO  '}${what}\n`);
  sayNode(say);
  if (!sayStateDirectory(config, say)) return 1;
  say(null, `limits: ${config.maxCpu} CPUs, ${config.maxMemoryMb} MiB over all boxes`);
  for (const [tool, source] of tools) {
    const path = findTool(tool);
    say(path === null ? null : true, path === null ? `${tool} is not there; package ${source}` : `${tool}: ${path}`);
  }
  sayKvm(say);
  let chosenWorks = false;
  for (const driver of drivers) {
    const chosen = driver === config.driver;
    const { ok, problems } = await probeDriver({ ...config, driver }, { fresh: true });
    if (chosen) chosenWorks = ok;
    say(ok ? true : chosen ? false : null, `driver ${driver}${chosen ? ' (chosen)' : ''}: ${ok ? 'works' : 'does not work here'}`);
    for (const problem of problems) process.stdout.write(`        ${problem}\n`);
  }
  if (!chosenWorks && config.driver === 'boxlite') {
    process.stdout.write('Boxes can run as containers instead, less isolated from the host: boxrun serve --driver container\n');
  }
  return chosenWorks ? 0 : 1;
}

function sayNode(say: Say): void {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const good = major > 20 || (major === 20 && minor >= 19);
  say(good, `Node ${process.versions.node}${good ? '' : '; 20.19 or newer is needed'} on ${process.platform} ${process.arch}`);
}

function sayStateDirectory({ stateDir }: Config, say: Say): boolean {
  try {
    for (const directory of stateDirectories(stateDir)) mkdirSync(directory, { recursive: true, mode: 0o700 });
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
