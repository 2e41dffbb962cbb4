// Composes the supervisor process, which owns all boxes and their workers. The parts start in the order of this file.
// The process ends when the keeper is gone; its workers go on.
import { availableParallelism } from 'node:os';
import type { KeepCompiled } from '../shared/process/compiled-code.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import { supervisorContract, type SupervisorContract } from '../shared/contracts/supervisor.ts';
import { noWriterNotices, writerContract } from '../shared/contracts/writer.ts';
import { createDiskReserve } from '../shared/host/disk-reserve.ts';
import { faultPoint } from '../shared/faults/fault.ts';
import { createTurns } from '../shared/waiting/in-turn.ts';
import { createLink } from '../shared/ipc/link.ts';
import { serveContract } from '../shared/ipc/server.ts';
import { firstBlockOf } from '../shared/host/id-ranges.ts';
import { limits } from '../shared/limits.ts';
import { createLogger, logWarnings, type Logger } from '../shared/observe/log.ts';
import { createLinkMeter, createMeters } from '../shared/observe/metrics.ts';
import { takeOrders, type Lifeline } from '../shared/process/own-process.ts';
import { openReader } from '../shared/store/reader.ts';
import type { BoxRow } from '../shared/store/rows.ts';
import { createBox, type SupervisedBox } from './boxes/box.ts';
import { createBoxRegistry, type BoxRegistry } from './boxes/box-registry.ts';
import { createBoxWorker, type BoxWorkerDeps } from './workers/box-worker.ts';
import { createControl } from './control.ts';
import { findDisorder } from './recovery/disorder.ts';
import { watchDisk } from './boxes/disk-watch.ts';
import { createImageGate } from './admission/image-gate.ts';
import { createSupervisorMeters, logged, measured } from './figures/meters.ts';
import { createQuota, type Quota } from './admission/quota.ts';
import { createReconciliation } from './recovery/reconciliation.ts';
import { recover } from './recovery/recovery.ts';
import { createSpills } from './workers/spills.ts';
import { endSupervisor } from './ending.ts';
import { createPullWorker } from './workers/pull-worker.ts';
import { createWarmPool } from './workers/warm-pool.ts';
import { createWatchHandlers } from './figures/watch-handlers.ts';
import { startWorker, type FoundWorker, type WorkerDeps, type WorkerHandle } from './workers/worker-handle.ts';

/** @param keepCompiled stores the compiled code of this process for the next supervisor */
export async function main(keepCompiled: KeepCompiled): Promise<void> {
  const lifeline = takeOrders();
  const { config } = lifeline.orders;
  const log = beginProcess(lifeline);
  const paths = statePaths(config.stateDir);

  // The database: changes go to the writer, and this process reads with a connection of its own.
  const meters = createMeters('supervisor');
  const meterRequests = createLinkMeter(meters);
  const writer = createLink({
    observe: meterRequests('supervisor_writer'),
    path: paths.writerSocket,
    contract: writerContract,
    hello: { role: 'supervisor' },
    notices: noWriterNotices,
  });
  const { instanceId } = (await writer.ready(limits.childReadyMs)).hello;
  const reader = openReader(config.dbPath);

  // The parts that all boxes share.
  const registry = createBoxRegistry(config.caps.boxes, firstBlockOf(instanceId));
  const quota = createQuota({ cpu: config.maxCpu, memoryMb: config.maxMemoryMb, workers: config.maxWorkers }, () => {
    pool.fill();
  });
  const gate = createImageGate();
  const spills = createSpills(config, log);
  const turns = {
    workerStarts: createTurns(limits.workerStartsPerCpu * availableParallelism()),
    boxes: createTurns(limits.boxTurnsPerCpu * availableParallelism(), limits.boxTurnMs),
  };

  // The workers of boxes, and spare ones.
  const liveWorkers = new Set<WorkerHandle>();
  const figures = createSupervisorMeters({
    meters,
    registry,
    liveWorkers,
    writer,
    turns,
    limits: { cpu: config.maxCpu, memoryMb: config.maxMemoryMb },
    keeperFile: paths.keeperFile,
  });
  const observe = meterRequests('supervisor_worker');
  const workerDeps: WorkerDeps = { config, log, liveWorkers, starting: new Set(), onLost: figures.workerLost, observe };
  const pool = createWarmPool({
    size: () => Math.min(config.spareWorkers, quota.spareWorkersMax()),
    start: () => turns.workerStarts.take(() => startWorker(workerDeps)),
    log,
  });

  // The boxes of the database, with the workers that an earlier supervisor left.
  const boxWorkerDeps: BoxWorkerDeps = { writer, reader, pool, gate, turns: turns.boxes, spills, instanceId, log };
  const supervise = (row: BoxRow, found: FoundWorker | null = null) =>
    superviseBox({ registry, quota, boxWorkerDeps }, row, found);
  await recover({ config, reader, registry, quota, pool, workers: workerDeps, spills, log, supervise });
  const reserve = createDiskReserve(config);
  const disk = watchDisk({ stateDir: config.stateDir, floorMb: config.caps.freeDiskMb, registry, reserve, log });

  // The service for gateways.
  const takePullWorker = async () => createPullWorker(await pool.take(), config.driver, instanceId, log);
  const control = createControl({
    config,
    registry,
    quota,
    writer,
    reader,
    log,
    disk,
    gate,
    takePullWorker,
    supervise,
  });
  const watches = createWatchHandlers({ registry, liveWorkers, figures, disk });
  const server = await serveContract<SupervisorContract>({
    path: paths.supervisorSocket,
    contract: supervisorContract,
    hello: () => ({ pid: process.pid }),
    handlers: logged({ ...measured(control.handlers, meters), ...watches }, log),
    log,
    onDisconnect: control.removeRunsOf,
  });
  faultPoint('supervisor.boot.listening');

  // Reconciliation runs in the background until the end.
  const look = () =>
    findDisorder({ config, instanceId, reader, registry, quota, pool, workers: workerDeps, supervise, log });
  const reconciliation = createReconciliation({ meters, log, look });
  let ending: Promise<never> | null = null;
  process.on('SIGTERM', () => {
    // The signal may come twice: from the keeper, and from a program that ends the whole control group (systemd).
    ending ??= endSupervisor({ config, log, registry, closing: [server, disk, reconciliation, pool], keepCompiled });
  });
  lifeline.ready();
  reconciliation.start(config.reconcileEveryMs);
  log.info({ instanceId, boxes: registry.all().length }, 'the supervisor is ready');
}

function beginProcess({ orders, parentGone }: Lifeline): Logger {
  process.title = `boxrun supervisor ${orders.config.stateDir}`;
  const log = createLogger('supervisor', orders.config);
  logWarnings(log);
  void parentGone.then(() => {
    log.warn('the keeper is gone');
    process.exit(0);
  });
  process.on('SIGINT', () => undefined); // The keeper handles Ctrl-C in a terminal, for all its processes.
  return log;
}

interface SharedByBoxes {
  readonly registry: BoxRegistry;
  readonly quota: Quota;
  readonly boxWorkerDeps: BoxWorkerDeps;
}

function superviseBox(
  { registry, quota, boxWorkerDeps }: SharedByBoxes,
  row: BoxRow,
  found: FoundWorker | null,
): SupervisedBox {
  const box: SupervisedBox = createBox(
    {
      writer: boxWorkerDeps.writer,
      quota,
      log: boxWorkerDeps.log,
      worker: createBoxWorker(boxWorkerDeps, row, found),
      onRemoved() {
        registry.delete(box);
      },
      claimIdBlock: () => (row.driver === 'container' ? registry.claimIdBlock(row.id) : null),
      onNameReleased() {
        if (row.name !== null) registry.releaseName(row.name, row.id);
      },
    },
    row,
  );
  return box;
}
