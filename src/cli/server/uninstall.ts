// Removes boxrun from this host, in this order: boxes, services, server, data (if the user wants that), package.
// It removes only what boxrun has made, and nothing before the user has said yes.
import { existsSync } from 'node:fs';
import { readdir, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { killAndWait } from '../../shared/process/child-process.ts';
import { loadConfig, type Config } from '../../shared/settings/config.ts';
import { probeFileOf, statePaths } from '../../shared/settings/state-dir.ts';
import { ask, requireTerminalToAsk } from './ask.ts';
import { compiledDirOfUser } from './compiled-dir.ts';
import { serverProcesses, stopServer } from './server-processes.ts';
import { installedPrefix, runNpm } from './installation.ts';
import { printLines } from '../render/render.ts';
import { installedServices, uninstallService, unitFile } from './service.ts';
import { isServerUp, withClient } from './running-server.ts';

interface UninstallOptions {
  /** Asks the user before anything is removed. */
  readonly isAsked: boolean;
  /** Null: ask the user, or keep the data if `isAsked` is false. */
  readonly data: 'keep' | 'purge' | null;
  readonly isDryRun: boolean;
}

/** Returns the exit code: 1 if the user said no, npm's own, or 0. @throws UsageError if no terminal is there to ask */
export async function uninstall({ isAsked, data, isDryRun }: UninstallOptions): Promise<number> {
  const config = loadConfig();
  const prefix = installedPrefix();
  const hasData = existsSync(config.stateDir);
  let purge = data === 'purge';
  if (isAsked && !isDryRun) {
    requireTerminalToAsk('uninstall', 'uninstall --yes');
    if (!(await ask('Stop the boxes and the server, and remove boxrun?'))) return 1;
    if (data === null && hasData) purge = await ask(`Remove all boxes, images and logs in ${config.stateDir} too?`);
  }
  if (hasData) await stopBoxes(config, { purge, isDryRun });
  await removeServices(isDryRun);
  if (hasData) {
    await endServer(config, isDryRun);
    if (purge) await removeData(config, isDryRun);
    else printLines(`The data stays in ${config.stateDir}`);
  }
  if (!isDryRun) await removeCompiled();
  if (prefix !== null) return runNpm(['uninstall', '--global', '--prefix', prefix, 'boxrun'], isDryRun);
  printLines('This boxrun was not installed by npm, so its files stay where they are.');
  return 0;
}

/** Must run before `stopServer`: systemd would start the server again. */
async function removeServices(isDryRun: boolean): Promise<void> {
  for (const owner of installedServices()) {
    if (isDryRun) printLines(`Would stop and remove the service ${unitFile(owner)}`);
    else await uninstallService(owner, false);
  }
}

/**
 * Stops the running boxes, because boxes would outlive their server. With `purge` it removes every box, which also
 * removes their mounts and networks from the host. If no server runs, it starts one for this.
 */
async function stopBoxes(
  config: Config,
  { purge, isDryRun }: { readonly purge: boolean; readonly isDryRun: boolean },
): Promise<void> {
  const hasBoxes = (await readdir(statePaths(config.stateDir).boxesDir).catch(() => [])).length > 0;
  const isNeeded = (await isServerUp()) || (await serverProcesses(config.stateDir)).length > 0 || (purge && hasBoxes);
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

async function endServer(config: Config, isDryRun: boolean): Promise<void> {
  if ((await serverProcesses(config.stateDir)).length === 0) return;
  printLines(isDryRun ? 'Would stop the server' : 'Stopping the server');
  if (isDryRun) return;
  await stopServer(config.stateDir);
  // What is left holds no running box, so it can be killed: spare workers, or the rest of a server whose keeper was
  // killed.
  for (const { pid, startTicks } of await serverProcesses(config.stateDir))
    await killAndWait({ pid, startTicks }, 5_000, 'a process of the server');
}

/** Removes the compiled code of this user's commands, and its parent directory if that is empty then. */
async function removeCompiled(): Promise<void> {
  const directory = compiledDirOfUser();
  await rm(directory, { recursive: true, force: true });
  await rmdir(dirname(directory)).catch(() => undefined);
}

/** Removes the files of boxrun by their names. The state directory itself goes only if no other file is left in it. */
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
    join(stateDir, 'probe.json'), // Written by older versions.
    paths.cookieKey,
    paths.lock,
  ];
  for (const path of own) await rm(path, { recursive: true, force: true });
  const left = await rmdir(stateDir).then(
    () => [],
    () => readdir(stateDir),
  );
  if (left.length > 0) printLines(`These files are not from boxrun and stay in ${stateDir}: ${left.join(', ')}`);
}
