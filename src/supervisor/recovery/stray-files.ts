// Files of processes that are gone: a worker's sockets and state file, and sockets and spills that never got their
// name. A worker that lives and that this supervisor does not hold is ended with them: it should have gone by itself.
import { readdir, readFile, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isAlive, killAndWait, processIdentity } from '../../shared/process/child-process.ts';
import { WorkerStateFile } from '../../shared/contracts/worker.ts';
import { fits } from '../../shared/ipc/contract.ts';
import { limits } from '../../shared/limits.ts';
import { removeWorkerFiles, workerIdOf, type WorkerHandle } from '../workers/worker-handle.ts';

export interface FilePlaces {
  readonly workersDir: string;
  /** Where the sockets of the other processes and the spills are. */
  readonly unnamedDirs: readonly string[];
}

/** The workers that this supervisor has. */
export interface OwnWorkers {
  readonly liveWorkers: ReadonlySet<WorkerHandle>;
  readonly starting: ReadonlySet<string>;
}

/** Ids of workers with files that nobody here has anything to do with. */
export async function findStrayWorkers({ workersDir }: FilePlaces, own: OwnWorkers): Promise<string[]> {
  const ids = new Set((await readdir(workersDir)).map(workerIdOf));
  return [...ids].filter((id) => !isOwn(id, own));
}

/** @throws TIMEOUT when a process does not die */
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
 * Sockets and spills are made under a name that ends with the process, and get their own by rename (ipc/socket.ts,
 * spill.ts).
 */
export async function findUnnamedFiles({ unnamedDirs }: FilePlaces): Promise<string[]> {
  const found = await Promise.all(
    unnamedDirs.map(async (directory) => {
      const names = (await readdir(directory)).filter((name) => /^([a-z]+\.sock|[\w-]+\.spill)\.\d+$/.test(name));
      return names.map((name) => join(directory, name));
    }),
  );
  const gone = await Promise.all(found.flat().map(async (path) => ((await isMakerAlive(path)) ? null : path)));
  return gone.filter((path) => path !== null);
}

export async function removeUnnamedFile(path: string): Promise<void> {
  if (!(await isMakerAlive(path))) await unlink(path).catch(() => undefined);
}

async function isMakerAlive(path: string): Promise<boolean> {
  return (await processIdentity(Number(basename(path).split('.').at(-1)))) !== null;
}

function isOwn(id: string, { liveWorkers, starting }: OwnWorkers): boolean {
  return starting.has(id) || [...liveWorkers].some(({ workerId }) => workerId === id);
}

/** Where `socketPath`, the gateways' own, may lie as well. */
export function socketDirs(runDir: string, socketPath: string | null): string[] {
  return [...new Set([runDir, ...(socketPath === null ? [] : [dirname(socketPath)])])];
}
