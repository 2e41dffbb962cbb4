// Finds and removes the files of dead processes: sockets and state files of workers, and sockets and spills that never
// got their final name. A living worker that does not belong to this supervisor is killed: it should have ended itself.
import { readdir, readFile, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isAlive, killAndWait, processIdentity } from '../../shared/process/child-process.ts';
import { WorkerStateFile } from '../../shared/contracts/worker.ts';
import { fits } from '../../shared/ipc/contract.ts';
import { limits } from '../../shared/limits.ts';
import { removeWorkerFiles, workerIdOf, type WorkerHandle } from '../workers/worker-handle.ts';

export interface FilePlaces {
  readonly workersDir: string;
  /** The directories with the sockets of the other processes and with the spills. */
  readonly unfinishedDirs: readonly string[];
}

/** The workers of this supervisor. */
export interface OwnWorkers {
  readonly liveWorkers: ReadonlySet<WorkerHandle>;
  readonly starting: ReadonlySet<string>;
}

/** The ids of workers that have files, but do not belong to this supervisor. */
export async function findStrayWorkers({ workersDir }: FilePlaces, own: OwnWorkers): Promise<string[]> {
  const ids = new Set((await readdir(workersDir)).map(workerIdOf));
  return [...ids].filter((id) => !isOwn(id, own));
}

/** Kills the worker, if it lives, and removes its files. @throws TIMEOUT when the process does not die */
export async function endStrayWorker({ workersDir }: FilePlaces, own: OwnWorkers, workerId: string): Promise<void> {
  if (isOwn(workerId, own)) return;
  const value: unknown = await readFile(join(workersDir, `${workerId}.json`), 'utf8')
    .then(JSON.parse)
    .catch(() => null);
  if (fits(WorkerStateFile, value)) {
    const state = value as WorkerStateFile;
    if (await isAlive(state)) await killAndWait(state, limits.killTimeoutMs, `stray worker ${workerId}`);
  }
  await removeWorkerFiles(workersDir, workerId);
}

/**
 * Finds sockets and spills that a dead process has left under their first name. A process creates them under a name
 * that ends with its process id, and renames them when they are complete (ipc/socket.ts, spill.ts).
 */
export async function findUnfinishedFiles({ unfinishedDirs }: FilePlaces): Promise<string[]> {
  const found = await Promise.all(
    unfinishedDirs.map(async (directory) => {
      const names = (await readdir(directory)).filter((name) => /^([a-z]+\.sock|[\w-]+\.spill)\.\d+$/.test(name));
      return names.map((name) => join(directory, name));
    }),
  );
  const gone = await Promise.all(found.flat().map(async (path) => ((await isMakerAlive(path)) ? null : path)));
  return gone.filter((path) => path !== null);
}

export async function removeUnfinishedFile(path: string): Promise<void> {
  if (!(await isMakerAlive(path))) await unlink(path).catch(() => undefined);
}

async function isMakerAlive(path: string): Promise<boolean> {
  return (await processIdentity(Number(basename(path).split('.').at(-1)))) !== null;
}

function isOwn(id: string, { liveWorkers, starting }: OwnWorkers): boolean {
  return starting.has(id) || [...liveWorkers].some(({ workerId }) => workerId === id);
}

/** The directories for sockets. `socketPath` is the socket of the gateways, which may lie in a directory of its own. */
export function socketDirs(runDir: string, socketPath: string | null): string[] {
  return [...new Set([runDir, ...(socketPath === null ? [] : [dirname(socketPath)])])];
}
