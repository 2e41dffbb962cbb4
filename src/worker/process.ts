// The life of a worker process: its two sockets, its state file, and the reasons for which it stops. The next
// supervisor finds the worker by the state file. The worker removes the file and the sockets only after it has released
// its box.
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
import { createHeldBox, type HeldBox } from './commands/held-box.ts';
import { createHandlers } from './control.ts';
import { prepareAhead } from './drivers/registry.ts';
import { createStreams } from './streams.ts';
import { BoxRunError } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';

export interface WorkerProcess {
  /** Releases the box, then exits. An answer to the request that asked for it is sent first. */
  stop(reason: string): Promise<void>;
}

interface WorkerOptions {
  readonly config: Config;
  readonly workerId: string;
  readonly processLog: ProcessLog;
  /** True when the supervisor that started this worker has ended. */
  readonly parentIsGone: () => boolean;
  /** Called when a worker that had a box stops: V8 has compiled nearly all of its code by then. */
  readonly keepCompiled: () => void;
}

/**
 * Listens on the sockets of the worker. The process then runs until one of these things happens:
 *
 * - A request or a signal asks it to stop.
 * - The writer refuses its lease.
 * - It has no supervisor, no command and no open stream for `orphanGraceMs`.
 * - Its supervisor has ended before the worker had its state file, and no other one has connected.
 */
export async function runWorker({
  config: startConfig,
  workerId,
  processLog,
  parentIsGone,
  keepCompiled,
}: WorkerOptions): Promise<WorkerProcess> {
  const { log } = processLog;
  let config = startConfig;
  const { workersDir } = statePaths(config.stateDir);
  const socketPath = join(workersDir, `${workerId}.sock`);
  const streamPath = streamSocketPath(workersDir, workerId);
  /** Files that are prepared before the box is known. */
  const aheadDir = aheadDirOf(workersDir, workerId);
  const stateFile = await createStateFile(workersDir, workerId);
  let heldBox: HeldBox | null = null;
  let orphanTimer: NodeJS.Timeout | undefined;
  let stopping: Promise<void> | null = null;
  let unkillableReason: string | null = null;

  async function assign(assignment: Assignment): Promise<void> {
    process.title = `boxrun worker ${assignment.boxId} ${config.stateDir}`;
    const onEngineExit = (reason: string) => {
      notifyPeers(server.peers, 'engineExited', reason);
    };
    const onUnkillable = (reason: string) => {
      unkillableReason = reason;
      notifyPeers(server.peers, 'unkillable', reason);
    };
    await prepared;
    const reports = { onEngineExit, onUnkillable, onFenced: () => process.exit(1) };
    const { handOver } = streams;
    heldBox = await createHeldBox({ config, workerId, log, aheadDir, handOver, ...reports }, assignment);
    faultPoint('worker.assign.made');
    stateFile.write(heldBox);
    faultPoint('worker.assign.recorded');
  }

  function takeSettings(settings: WorkerSettings): void {
    config = withSettings(config, settings);
    processLog.change(settings);
    heldBox?.takeSettings(settings);
  }

  /** A worker without a supervisor, a command and an open stream stops after a while. Its box goes on. */
  function stopWhenOrphaned(): void {
    clearTimeout(orphanTimer);
    if (server.peers.size > 0) return;
    orphanTimer = setTimeout(() => {
      if ((heldBox?.execCount ?? 0) > 0 || streams.openCount > 0) stopWhenOrphaned();
      else void stop('no supervisor');
    }, config.orphanGraceMs);
  }

  function stop(reason: string): Promise<void> {
    stopping ??= (async () => {
      log.info({ reason }, 'the worker stops');
      await releaseBox(heldBox, log);
      faultPoint('worker.leave.released');
      for (const path of [stateFile.path, streamPath, socketPath]) await unlink(path).catch(() => undefined);
      await prepared;
      await rm(aheadDir, { recursive: true, force: true }).catch(() => undefined);
      exitAfterAnswer(heldBox === null ? () => undefined : keepCompiled);
    })();
    return stopping;
  }

  // This runs beside the rest of the start. If it fails, the driver does the same work later, for the box, and that
  // call reports the error.
  const prepared = prepareAhead(config.driver, config, aheadDir).catch((error: unknown) => {
    log.debug({ err: error }, 'the worker could not prepare anything for its future box');
  });
  const streams = await createStreams(streamPath, log, async (operation, stream) => {
    if (heldBox === null) throw new BoxRunError('BOX_NOT_RUNNING', 'this worker has no box');
    await heldBox.serveStream(operation, stream);
  });
  const server: IpcServer<WorkerContract> = await serveContract({
    path: socketPath,
    contract: workerContract,
    hello: () => helloOf(workerId, heldBox, startConfig),
    handlers: createHandlers({
      heldBox: () => heldBox,
      assign,
      takeSettings,
      stop: () => stop('asked by the supervisor'),
      streams,
    }),
    log,
    onConnect(peer) {
      stopWhenOrphaned();
      if (unkillableReason !== null) peer.notify('unkillable', { reason: unkillableReason });
    },
    onDisconnect: stopWhenOrphaned,
  });
  faultPoint('worker.boot.listening');
  stateFile.write(null);
  // The next supervisor may have looked for workers before this worker had written its state file.
  if (parentIsGone() && server.peers.size === 0) await stop('its supervisor ended while the worker started');
  stopWhenOrphaned();
  return { stop };
}

function notifyPeers(
  peers: IpcServer<WorkerContract>['peers'],
  notice: 'engineExited' | 'unkillable',
  reason: string,
): void {
  for (const peer of peers) peer.notify(notice, { reason });
}

async function releaseBox(heldBox: HeldBox | null, log: Logger): Promise<void> {
  await heldBox?.release().catch((error: unknown) => {
    log.error({ err: error }, 'releasing the box failed');
  });
}

function withSettings(config: Config, { logLevel, logFormat, orphanGraceMs, outputMb, execs }: WorkerSettings): Config {
  return { ...config, logLevel, logFormat, orphanGraceMs, caps: { ...config.caps, outputMb, execs } };
}

/** Waits two turns of the event loop, so that the answer to the request `leave` is sent before the process exits. */
function exitAfterAnswer(beforeExit: () => void): void {
  setImmediate(() =>
    setImmediate(() => {
      beforeExit();
      process.exit(0);
    }),
  );
}

/** The file by which the next supervisor finds this worker. Each write replaces the whole file at once. */
async function createStateFile(workersDir: string, workerId: string) {
  const path = join(workersDir, `${workerId}.json`);
  const startTicks = (await processIdentity(process.pid))?.startTicks ?? 0;
  return {
    path,
    write(box: Pick<HeldBox, 'boxId' | 'generation'> | null): void {
      const { boxId, generation } = box ?? { boxId: null, generation: 0 };
      const state: WorkerStateFile = { workerId, pid: process.pid, startTicks, boxId, generation };
      writeFileSync(`${path}.part`, JSON.stringify(state), { mode: 0o600 });
      renameSync(`${path}.part`, path);
    },
  };
}

function helloOf(workerId: string, heldBox: HeldBox | null, startConfig: Config): ServerHello<WorkerContract> {
  return {
    workerId,
    pid: process.pid,
    boxId: heldBox?.boxId ?? null,
    generation: heldBox?.generation ?? 0,
    running: heldBox?.running ?? false,
    build: buildId,
    takes: [...requestsTaken],
    // The settings of the start. By them the supervisor finds out whether a spare worker fits.
    settingsDigest: settingsDigest(startConfig),
  };
}
