// One worker as the supervisor sees it: its process, its connection, and the certainty of its end.
// `gone` resolves only when the process is dead: its successor must not open the box's home before.
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
import { noSignOfLife } from '../../shared/process/heartbeat.ts';
import { connectContract, type NoticeHandlers, type ServerPeer } from '../../shared/ipc/client.ts';
import { fits } from '../../shared/ipc/contract.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { startOwnProcess } from '../../shared/process/own-process.ts';

export interface WorkerHandle {
  readonly workerId: string;
  readonly peer: ServerPeer<WorkerContract>;
  /** The process is dead and its files are gone. */
  readonly gone: Promise<void>;
  /** Who hears that the engine ended by itself; one at a time. */
  onEngineExit: ((reason: string) => void) | null;
  /** ... and that a command resists its kill. */
  onUnkillable: ((reason: string) => void) | null;
  /**
   * What it says of itself now; null when its process does not answer within limits.helloTimeoutMs: frozen, or too busy
   * for anything.
   */
  greet(): Promise<ServerPeer<WorkerContract>['hello'] | null>;
  /** Asks it to leave, then kills it; resolves when it is gone. A running engine stays. */
  dismiss(): Promise<void>;
  kill(): Promise<void>;
}

/** A worker that an earlier supervisor started, as its state file tells of it. */
export interface FoundWorker {
  readonly workerId: string;
  /** Null for a spare. */
  readonly boxId: string | null;
  /** Its handle when it has said hello; null when it is dead. Rejects when it neither answers nor dies: it hangs. */
  readonly arrival: Promise<WorkerHandle | null>;
  /** Resolves when it is certainly dead. @throws TIMEOUT when it does not die */
  end(): Promise<void>;
}

export interface WorkerDeps {
  readonly config: Config;
  readonly log: Logger;
  /** Every worker that this supervisor holds, from its hello to its death. */
  readonly census: Set<WorkerHandle>;
  /** Ids of those that are on their way to it. */
  readonly starting: Set<string>;
  /** A worker ended without being asked to. */
  readonly onLost?: () => void;
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
    await forgetFiles(statePaths(config.stateDir).workersDir, workerId);
    throw error;
  } finally {
    deps.starting.delete(workerId);
  }
}

/**
 * Workers that an earlier supervisor started and that live. What is left of dead ones is cleared away. It waits for no
 * worker: each arrives by itself, so that one that hangs keeps nobody else waiting.
 */
export async function findWorkers(deps: WorkerDeps): Promise<FoundWorker[]> {
  const { workersDir } = statePaths(deps.config.stateDir);
  const names = await readdir(workersDir);
  const recorded = names.filter((name) => name.endsWith('.json'));
  // One that died, or is just coming up and goes by itself, before it had a state file.
  const unrecorded = new Set(names.map(idOf).filter((id) => !recorded.includes(`${id}.json`)));
  for (const id of unrecorded) await forgetFiles(workersDir, id);
  const found = await Promise.all(
    recorded.map(async (name): Promise<FoundWorker | null> => {
      const value: unknown = await readFile(join(workersDir, name), 'utf8')
        .then(JSON.parse)
        .catch(() => null);
      const state = fits(WorkerStateFile, value) ? (value as WorkerStateFile) : null;
      const identity = state === null ? null : await processIdentity(state.pid);
      if (state === null || identity === null || identity.startTicks !== state.startTicks) {
        await forgetFiles(workersDir, idOf(name));
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
    await forgetFiles(workersDir, workerId);
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
  { config, log, census, onLost, observe }: WorkerDeps,
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
  let asked = false;
  const kill = async () => {
    asked = true;
    await killAndWait(identity, limits.killTimeoutMs, `worker ${workerId}`);
  };
  const gone = peer.closed.then(async (reason) => {
    if (reason === noSignOfLife) log.warn({ workerId, pid: identity.pid, reason }, 'a worker hangs; it is killed');
    else log.debug({ workerId, pid: identity.pid, reason }, 'the connection to a worker ended');
    // One that closed its connection may still be on its way out; one that lives on without us must not.
    await killAndWait(identity, limits.killTimeoutMs, `worker ${workerId}`);
    census.delete(handle);
    if (!asked) onLost?.();
    await forgetFiles(workersDir, workerId);
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
      // A second connection: every worker says hello, also one of an earlier version.
      const ignore = () => undefined;
      const greeted = await connect({ engineExited: ignore, unkillable: ignore }).catch(() => null);
      greeted?.close('it is awake');
      return greeted?.hello ?? null;
    },
    kill,
    async dismiss() {
      asked = true;
      const left = peer.request('leave', {}).then(() => peer.closed);
      await withDeadline(left, limits.workerExitMs, 'leaving').catch(() => undefined);
      await kill();
      await gone;
    },
  };
  census.add(handle);
  return handle;
}

interface KeptNotice {
  listener: ((reason: string) => void) | null;
  take(reason: string): void;
}

/** A notice may come right behind the hello, before anybody listens here: it is kept until somebody does. */
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

/** The worker to which a file in its directory belongs. */
export function idOf(name: string): string {
  return name.split('.')[0] ?? name;
}

/** Removes everything of a worker that is gone. */
export async function forgetFiles(workersDir: string, workerId: string): Promise<void> {
  for (const name of await readdir(workersDir).catch(() => [])) {
    if (idOf(name) === workerId)
      await rm(join(workersDir, name), { recursive: true, force: true }).catch(() => undefined);
  }
}
