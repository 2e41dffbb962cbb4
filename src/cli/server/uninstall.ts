// The end of boxrun on this host, in order: boxes, server, data where that is wanted, package. Nothing is removed that
// boxrun has not made, and nothing before the user has said yes.
import { existsSync } from 'node:fs';
import { readdir, readFile, readlink, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import {
  killAndWait,
  killQuietly,
  isAlive,
  processIdentity,
  type ProcessIdentity,
} from '../../shared/process/child-process.ts';
import { sleep } from '../../shared/waiting/clock.ts';
import { loadConfig, type Config } from '../../shared/settings/config.ts';
import { probeFileOf, statePaths } from '../../shared/settings/state-dir.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { compiledDirOfUser } from './compiled-dir.ts';
import { installedPrefix, runNpm } from './installation.ts';
import { UsageError } from '../parsing/options.ts';
import { printLines } from '../render/render.ts';
import { installedServices, uninstallService, unitFile } from './service.ts';
import { isServerUp, withClient } from './running-server.ts';

interface UninstallOptions {
  readonly isAsked: boolean;
  /** Null: ask, or keep where nobody is asked. */
  readonly data: 'keep' | 'purge' | null;
  readonly isDryRun: boolean;
}

/** A server ends its children one after the other. */
const serverStopMs = 60_000;

export async function uninstall({ isAsked, data, isDryRun }: UninstallOptions): Promise<number> {
  const config = loadConfig();
  const prefix = installedPrefix();
  const hasData = existsSync(config.stateDir);
  let purge = data === 'purge';
  if (isAsked && !isDryRun) {
    if (!process.stdin.isTTY) throw new UsageError('nobody can be asked here; say --yes');
    if (!(await ask('Stop the boxes and the server, and remove boxrun?'))) return 1;
    if (data === null && hasData) purge = await ask(`Remove all boxes, images and logs in ${config.stateDir} too?`);
  }
  if (hasData) await endBoxes(config, { purge, isDryRun });
  await removeServices(isDryRun);
  if (hasData) {
    await endServer(config, isDryRun);
    if (purge) await removeData(config, isDryRun);
    else printLines(`The data stays in ${config.stateDir}`);
  }
  if (!isDryRun) await removeCompiled();
  if (prefix !== null) return runNpm(['uninstall', '--global', '--prefix', prefix, 'boxrun'], isDryRun);
  printLines('This boxrun is not installed by npm: its files stay where they are.');
  return 0;
}

/** Before the server is ended: systemd would start it again. */
async function removeServices(isDryRun: boolean): Promise<void> {
  for (const owner of installedServices()) {
    if (isDryRun) printLines(`Would end and remove the service ${unitFile(owner)}`);
    else await uninstallService(owner, false);
  }
}

async function ask(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

/**
 * Stops what runs; with `purge`, removes every box, which gives mounts and networks back. Boxes outlive their server.
 */
async function endBoxes(
  config: Config,
  { purge, isDryRun }: { readonly purge: boolean; readonly isDryRun: boolean },
): Promise<void> {
  const boxesThere = (await readdir(statePaths(config.stateDir).boxesDir).catch(() => [])).length > 0;
  const isNeeded = (await isServerUp()) || (await processesOf(config.stateDir)).length > 0 || (purge && boxesThere);
  if (!isNeeded) return;
  if (isDryRun) {
    printLines(purge ? 'Would remove every box' : 'Would stop every box');
    return;
  }
  await withClient(async (client) => {
    for (const { id, status } of await client.listBoxes()) {
      if (purge) await client.removeBox(id, { force: true });
      else if (status === 'running') await client.stopBox(id);
      else continue;
      printLines(`${purge ? 'Removed' : 'Stopped'}: ${id}`);
    }
    return 0;
  });
}

async function endServer({ stateDir }: Config, isDryRun: boolean): Promise<void> {
  const found = await processesOf(stateDir);
  if (found.length === 0) return;
  printLines(isDryRun ? 'Would stop the server' : 'Stopping the server');
  if (isDryRun) return;
  const keepers = found.filter(({ role }) => role === 'keeper');
  for (const { pid } of keepers) killQuietly(pid, 'SIGTERM');
  const deadline = Date.now() + serverStopMs;
  for (const keeper of keepers) {
    while (await isAlive(keeper)) {
      if (Date.now() > deadline) throw new BoxRunError('TIMEOUT', `the server (process ${keeper.pid}) does not end`);
      await sleep(25);
    }
  }
  // Spare workers have nothing to lose.
  for (const { pid, startTicks } of await processesOf(stateDir))
    await killAndWait({ pid, startTicks }, 5_000, 'a process of the server');
}

interface ServerProcess extends ProcessIdentity {
  readonly role: string;
}

/** The processes that call themselves parts of boxrun and have a file of this state directory open. */
async function processesOf(stateDir: string): Promise<ServerProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map((pid) => inspect(pid, stateDir).catch(() => null)));
  return found.filter((each) => each !== null);
}

async function inspect(pid: number, stateDir: string): Promise<ServerProcess | null> {
  const title = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
  const role = /^boxrun (keeper|supervisor|gateway|writer|worker)\b/.exec(title)?.[1];
  if (role === undefined) return null;
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
    if (!target.startsWith(`${stateDir}/`)) continue;
    const identity = await processIdentity(pid);
    return identity === null ? null : { ...identity, role };
  }
  return null;
}

/** Removes what boxrun keeps, piece by piece; a directory goes only when nothing of anybody else's is in it. */
/** Of commands of this user, beside other caches of boxrun. */
async function removeCompiled(): Promise<void> {
  const directory = compiledDirOfUser();
  await rm(directory, { recursive: true, force: true });
  await rmdir(dirname(directory)).catch(() => undefined);
}

async function removeData({ stateDir, dbPath, socketPath }: Config, isDryRun: boolean): Promise<void> {
  printLines(`${isDryRun ? 'Would remove' : 'Removing'} the data in ${stateDir}`);
  if (isDryRun) return;
  const paths = statePaths(stateDir);
  const databases = (await readdir(dirname(dbPath)).catch(() => []))
    .filter(
      (name) =>
        name === basename(dbPath) || name.startsWith(`${basename(dbPath)}-`) || name.startsWith(`${basename(dbPath)}.`),
    )
    .map((name) => join(dirname(dbPath), name));
  const own = [
    ...databases,
    ...(socketPath === null ? [] : [socketPath]),
    paths.runDir,
    paths.logsDir,
    paths.spillDir,
    paths.boxesDir,
    paths.lostDir,
    paths.imagesDir,
    paths.compiledDir,
    probeFileOf(stateDir, 'boxlite'),
    probeFileOf(stateDir, 'container'),
    join(stateDir, 'probe.json'), // The last one is of an older version.
    paths.cookieKey,
    paths.lock,
  ];
  for (const path of own) await rm(path, { recursive: true, force: true });
  const left = await rmdir(stateDir).then(
    () => [],
    () => readdir(stateDir),
  );
  if (left.length > 0) printLines(`Not boxrun's, and left in ${stateDir}: ${left.join(', ')}`);
}
