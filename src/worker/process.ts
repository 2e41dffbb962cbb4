// The life of a worker process: its socket, the state file by which the next supervisor finds it, and when it leaves.
// main.ts runs it; box-runner.ts has the box.
import { renameSync, writeFileSync } from 'node:fs';
import { rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { buildId } from '../shared/process/build.ts';
import { processIdentity } from '../shared/process/child-process.ts';
import { type Config } from '../shared/settings/config.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import { settingsDigest, type WorkerSettings } from '../shared/contracts/settings.ts';
import {
  aheadDirOf,
  streamSocketPath,
  requestsTaken,
  workerContract,
  type Assignment,
  type WorkerContract,
  type WorkerStateFile,
} from '../shared/contracts/worker.ts';
import type { ServerHello } from '../shared/ipc/contract.ts';
import { serveContract, type IpcServer } from '../shared/ipc/server.ts';
import type { Logger, ProcessLog } from '../shared/observe/log.ts';
import { createBoxRunner, type BoxRunner } from './commands/held-box.ts';
import { createHandlers } from './control.ts';
import { prepareAhead } from './drivers/registry.ts';
import { createStreams } from './streams.ts';
import { BoxRunError } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';

export interface WorkerProcess {
  /** Lets go of the box and exits; the answer to whoever asked goes out first. */
  leave(reason: string): Promise<void>;
}

interface WorkerOptions {
  readonly config: Config;
  readonly workerId: string;
  readonly processLog: ProcessLog;
  /** Nobody hears that it is ready. */
  readonly parentIsGone: () => boolean;
  /** Called at the end of a worker that had a box: nearly all of its code has run then. */
  readonly keepCompiled: () => void;
}

/** Listens, and stays until told to leave, fenced, or orphaned for too long. */
export async function runWorker({
  config: started,
  workerId,
  processLog,
  parentIsGone,
  keepCompiled,
}: WorkerOptions): Promise<WorkerProcess> {
  const { log } = processLog;
  let config = started;
  const { workersDir } = statePaths(config.stateDir);
  const socketPath = join(workersDir, `${workerId}.sock`);
  const streamPath = streamSocketPath(workersDir, workerId);
  const aheadDir = aheadDirOf(workersDir, workerId);
  const stateFile = await createStateFile(workersDir, workerId);
  let runner: BoxRunner | null = null;
  let orphanTimer: NodeJS.Timeout | undefined;
  let leaving: Promise<void> | null = null;
  let unkillable: string | null = null;

  async function assign(assignment: Assignment): Promise<void> {
    process.title = `boxrun worker ${assignment.boxId}`;
    const onEngineExit = (reason: string) => {
      tell(server.peers, 'engineExited', reason);
    };
    const onUnkillable = (reason: string) => {
      unkillable = reason;
      tell(server.peers, 'unkillable', reason);
    };
    await prepared;
    runner = await createBoxRunner(
      { config, workerId, log, aheadDir, onEngineExit, onUnkillable, onFenced: () => process.exit(1) },
      assignment,
    );
    faultPoint('worker.assign.made');
    stateFile.write(runner);
    faultPoint('worker.assign.recorded');
  }

  function takeSettings(settings: WorkerSettings): void {
    config = changed(config, settings);
    processLog.change(settings);
    runner?.takeSettings(settings);
  }

  /** Without a supervisor and without a command there is nothing to stay for; the box stays as it is. */
  function watchForSupervisor(): void {
    clearTimeout(orphanTimer);
    if (server.peers.size > 0) return;
    orphanTimer = setTimeout(() => {
      if ((runner?.execCount ?? 0) > 0 || streams.openCount > 0) watchForSupervisor();
      else void leave('no supervisor');
    }, config.orphanGraceMs);
  }

  function leave(reason: string): Promise<void> {
    leaving ??= (async () => {
      log.info({ reason }, 'the worker leaves');
      await letGo(runner, log);
      faultPoint('worker.leave.released');
      for (const path of [stateFile.path, streamPath, socketPath]) await unlink(path).catch(() => undefined);
      await prepared;
      await rm(aheadDir, { recursive: true, force: true }).catch(() => undefined);
      exitSoon(runner === null ? () => undefined : keepCompiled);
    })();
    return leaving;
  }

  // Beside its start: what fails here is said when a box needs it.
  const prepared = prepareAhead(config.driver, config, aheadDir).catch((error: unknown) => {
    log.debug({ err: error }, 'nothing could be prepared for a box to come');
  });
  const streams = await createStreams(streamPath, log, async (operation, stream) => {
    if (runner === null) throw new BoxRunError('BOX_NOT_RUNNING', 'this worker has no box');
    await runner.serveStream(operation, stream);
  });
  const server: IpcServer<WorkerContract> = await serveContract({
    path: socketPath,
    contract: workerContract,
    hello: () => helloOf(workerId, runner, started),
    handlers: createHandlers({ runner: () => runner, assign, takeSettings, leave: () => leave('told to'), streams }),
    log,
    onConnect(peer) {
      watchForSupervisor();
      if (unkillable !== null) peer.notify('unkillable', { reason: unkillable });
    },
    onDisconnect: watchForSupervisor,
  });
  faultPoint('worker.boot.listening');
  stateFile.write(null);
  // The next supervisor may have looked for workers before this one could be found.
  if (parentIsGone() && server.peers.size === 0) await leave('its supervisor went while it started');
  watchForSupervisor();
  return { leave };
}

function tell(peers: IpcServer<WorkerContract>['peers'], notice: 'engineExited' | 'unkillable', reason: string): void {
  for (const peer of peers) peer.notify(notice, { reason });
}

async function letGo(runner: BoxRunner | null, log: Logger): Promise<void> {
  await runner?.release().catch((error: unknown) => {
    log.error({ err: error }, 'letting go of the box failed');
  });
}

function changed(config: Config, { logLevel, logFormat, orphanGraceMs, outputMb, execs }: WorkerSettings): Config {
  return { ...config, logLevel, logFormat, orphanGraceMs, caps: { ...config.caps, outputMb, execs } };
}

/** Two turns of the event loop: the answer to `leave` goes out before the end. */
function exitSoon(before: () => void): void {
  setImmediate(() =>
    setImmediate(() => {
      before();
      process.exit(0);
    }),
  );
}

/** By it the next supervisor finds this worker. */
async function createStateFile(workersDir: string, workerId: string) {
  const path = join(workersDir, `${workerId}.json`);
  const startTicks = (await processIdentity(process.pid))?.startTicks ?? 0;
  return {
    path,
    write(box: Pick<BoxRunner, 'boxId' | 'generation'> | null): void {
      const { boxId, generation } = box ?? { boxId: null, generation: 0 };
      const state: WorkerStateFile = { workerId, pid: process.pid, startTicks, boxId, generation };
      writeFileSync(`${path}.part`, JSON.stringify(state), { mode: 0o600 });
      renameSync(`${path}.part`, path);
    },
  };
}

function helloOf(workerId: string, runner: BoxRunner | null, started: Config): ServerHello<WorkerContract> {
  return {
    workerId,
    pid: process.pid,
    boxId: runner?.boxId ?? null,
    generation: runner?.generation ?? 0,
    running: runner?.running ?? false,
    build: buildId,
    takes: [...requestsTaken],
    settingsDigest: settingsDigest(started),
  };
}
