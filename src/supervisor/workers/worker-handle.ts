// One worker as the supervisor sees it: its process, its connection and its end. Starts workers, and finds those that
// an earlier supervisor started. `gone` resolves only when the process is dead: before that, no successor may open the
// home of the box.
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { killAndWait, processIdentity, type ProcessIdentity } from '../../shared/process/child-process.ts';
import { withDeadline } from '../../shared/waiting/clock.ts';
import { type Config } from '../../shared/settings/config.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { takes, workerContract, WorkerStateFile, type WorkerContract } from '../../shared/contracts/worker.ts';
import { workerSettingsOf } from '../../shared/contracts/settings.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { newId } from '../../shared/ids.ts';
import { noSignOfLife } from '../../shared/waiting/heartbeat.ts';
import { connectContract, type NoticeHandlers, type ServerPeer } from '../../shared/ipc/client.ts';
import { fits } from '../../shared/ipc/contract.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { startOwnProcess } from '../../shared/process/own-process.ts';

export interface WorkerHandle {
  readonly workerId: string;
  readonly peer: ServerPeer<WorkerContract>;
  /** Resolves when the process is dead and its files are removed. @throws TIMEOUT when the process does not die */
  readonly gone: Promise<void>;
  /** Called when the engine has ended by itself. There is one listener at a time. */
  onEngineExit: ((reason: string) => void) | null;
  /** Called when a command does not die after a kill. There is one listener at a time. */
  onUnkillable: ((reason: string) => void) | null;
  /**
   * Asks the worker for a new hello, with its present state. Null when the process does not answer within
   * limits.helloTimeoutMs: it is frozen or overloaded.
   */
  greet(): Promise<ServerPeer<WorkerContract>['hello'] | null>;
  /**
   * Asks the worker to leave, kills it after limits.workerExitMs, and resolves when it is gone. A running engine goes
   * on.
   * @throws TIMEOUT when the process does not die
   */
  stop(): Promise<void>;
  /** Kills the process. A running engine goes on. @throws TIMEOUT when the process does not die */
  kill(): Promise<void>;
}

/** A worker that an earlier supervisor started. Its state file names it. */
export interface FoundWorker {
  readonly workerId: string;
  /** Null for a spare. */
  readonly boxId: string | null;
  /**
   * The handle, when the worker has said hello; null when it is dead.
   * @throws TIMEOUT when it neither answers nor dies
   */
  readonly arrival: Promise<WorkerHandle | null>;
  /** Kills the worker, and resolves when it is dead. @throws TIMEOUT when it does not die */
  end(): Promise<void>;
}

export interface WorkerDeps {
  readonly config: Config;
  readonly log: Logger;
  /** Every worker of this supervisor, from its hello to its death. */
  readonly liveWorkers: Set<WorkerHandle>;
  /** Ids of workers that have not said hello yet. */
  readonly starting: Set<string>;
  /** Called when a worker has ended although this supervisor did not end it. */
  readonly onLost?: () => void;
  /** Called with the duration of each request to a worker. */
  readonly observe?: (method: string, seconds: number) => void;
}

/** @throws UNAVAILABLE when the process does not come up */
export async function startWorker(deps: WorkerDeps): Promise<WorkerHandle> {
  const { config } = deps;
  const workerId = newId('wrk');
  deps.starting.add(workerId);
  const started = startOwnProcess({
    orders: { role: 'worker', config, workerId },
    logFile: join(statePaths(config.stateDir).logsDir, 'workers.log'),
    readyMs: limits.workerReadyMs,
    detached: true,
    env: process.env,
  });
  started.child.unref();
  try {
    await started.ready;
    const identity = await processIdentity(started.pid);
    if (identity === null) throw new BoxRunError('UNAVAILABLE', 'the worker ended at once');
    return await connectWorker(deps, workerId, identity);
  } catch (error) {
    started.child.kill('SIGKILL');
    await started.exited;
    await removeWorkerFiles(statePaths(config.stateDir).workersDir, workerId);
    throw error;
  } finally {
    deps.starting.delete(workerId);
  }
}

/**
 * Finds the living workers that an earlier supervisor started, and removes the files of dead ones. It does not wait for
 * the hello of any worker, so a worker that hangs does not delay the others: see `FoundWorker.arrival`.
 */
export async function findWorkers(deps: WorkerDeps): Promise<FoundWorker[]> {
  const { workersDir } = statePaths(deps.config.stateDir);
  const names = await readdir(workersDir);
  const recorded = names.filter((name) => name.endsWith('.json'));
  // Workers without a state file: they have died early, or they are just starting. A starting one ends by itself,
  // because its supervisor is gone.
  const unrecorded = new Set(names.map(workerIdOf).filter((id) => !recorded.includes(`${id}.json`)));
  for (const id of unrecorded) await removeWorkerFiles(workersDir, id);
  const found = await Promise.all(
    recorded.map(async (name): Promise<FoundWorker | null> => {
      const value: unknown = await readFile(join(workersDir, name), 'utf8')
        .then(JSON.parse)
        .catch(() => null);
      const state = fits(WorkerStateFile, value) ? (value as WorkerStateFile) : null;
      const identity = state === null ? null : await processIdentity(state.pid);
      if (state === null || identity === null || identity.startTicks !== state.startTicks) {
        await removeWorkerFiles(workersDir, workerIdOf(name));
        return null;
      }
      return foundWorker(deps, state, identity);
    }),
  );
  return found.filter((worker) => worker !== null);
}

function foundWorker(deps: WorkerDeps, { workerId, boxId }: WorkerStateFile, identity: ProcessIdentity): FoundWorker {
  const { workersDir } = statePaths(deps.config.stateDir);
  const killWithin = async (ms: number) => {
    await killAndWait(identity, ms, `worker ${workerId}`);
    await removeWorkerFiles(workersDir, workerId);
  };
  async function arrive(): Promise<WorkerHandle | null> {
    deps.starting.add(workerId);
    try {
      const worker = await connectWorker(deps, workerId, identity);
      if (takes(worker.peer.hello, 'settings')) await worker.peer.request('settings', workerSettingsOf(deps.config));
      return worker;
    } catch (error) {
      deps.log.warn({ err: error, workerId, pid: identity.pid }, 'a worker does not answer; it is killed');
      await killWithin(limits.workerExitMs);
      return null;
    } finally {
      deps.starting.delete(workerId);
    }
  }
  const arrival = arrive();
  arrival.catch((error: unknown) => {
    deps.log.error({ err: error, workerId, boxId, pid: identity.pid }, 'a worker hangs, and cannot be killed');
  });
  return { workerId, boxId, arrival, end: () => killWithin(limits.killTimeoutMs) };
}

async function connectWorker(
  { config, log, liveWorkers, onLost, observe }: WorkerDeps,
  workerId: string,
  identity: ProcessIdentity,
): Promise<WorkerHandle> {
  const { workersDir } = statePaths(config.stateDir);
  const engineExit = createKeptNotice();
  const unkillable = createKeptNotice();
  const connect = (notices: NoticeHandlers<WorkerContract>) =>
    connectContract({
      path: join(workersDir, `${workerId}.sock`),
      contract: workerContract,
      hello: { role: 'supervisor' },
      notices,
      silenceMs: config.silenceMs,
      ...(observe === undefined ? {} : { observe }),
    });
  const peer = await connect({
    engineExited: ({ reason }) => {
      engineExit.take(reason);
    },
    unkillable: ({ reason }) => {
      unkillable.take(reason);
    },
  });
  let isExpected = false;
  const kill = async () => {
    isExpected = true;
    await killAndWait(identity, limits.killTimeoutMs, `worker ${workerId}`);
  };
  const gone = peer.closed.then(async (reason) => {
    if (reason === noSignOfLife) log.warn({ workerId, pid: identity.pid, reason }, 'a worker hangs; it is killed');
    else log.debug({ workerId, pid: identity.pid, reason }, 'the connection to a worker ended');
    // The process may be about to exit. If it is not, it must not live on without a connection.
    await killAndWait(identity, limits.killTimeoutMs, `worker ${workerId}`);
    liveWorkers.delete(handle);
    if (!isExpected) onLost?.();
    await removeWorkerFiles(workersDir, workerId);
  });
  gone.catch((error: unknown) => {
    log.error({ err: error, workerId, pid: identity.pid }, 'a worker cannot be killed');
  });
  const handle: WorkerHandle = {
    workerId,
    peer,
    gone,
    get onEngineExit() {
      return engineExit.listener;
    },
    set onEngineExit(next) {
      engineExit.listener = next;
    },
    get onUnkillable() {
      return unkillable.listener;
    },
    set onUnkillable(next) {
      unkillable.listener = next;
    },
    async greet() {
      // A second connection, because every worker says hello on a new connection, also one of an earlier version.
      const ignore = () => undefined;
      const greeted = await connect({ engineExited: ignore, unkillable: ignore }).catch(() => null);
      greeted?.close('it is awake');
      return greeted?.hello ?? null;
    },
    kill,
    async stop() {
      isExpected = true;
      const left = peer.request('leave', {}).then(() => peer.closed);
      await withDeadline(left, limits.workerExitMs, 'leaving').catch(() => undefined);
      await kill();
      await gone;
    },
  };
  liveWorkers.add(handle);
  return handle;
}

interface KeptNotice {
  listener: ((reason: string) => void) | null;
  take(reason: string): void;
}

/** Keeps a notice until there is a listener: a worker may send it right after its hello, before a listener is set. */
function createKeptNotice(): KeptNotice {
  let listener: ((reason: string) => void) | null = null;
  let missed: string | null = null;
  return {
    get listener() {
      return listener;
    },
    set listener(next) {
      listener = next;
      if (next === null || missed === null) return;
      const reason = missed;
      missed = null;
      queueMicrotask(() => {
        next(reason);
      });
    },
    take(reason) {
      if (listener === null) missed = reason;
      else listener(reason);
    },
  };
}

/** The id of the worker that owns the file `name` in the workers directory. */
export function workerIdOf(name: string): string {
  return name.split('.')[0] ?? name;
}

/** Removes every file of a dead worker. */
export async function removeWorkerFiles(workersDir: string, workerId: string): Promise<void> {
  for (const name of await readdir(workersDir).catch(() => [])) {
    if (workerIdOf(name) === workerId)
      await rm(join(workersDir, name), { recursive: true, force: true }).catch(() => undefined);
  }
}
