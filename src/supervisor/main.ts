// The supervisor process: composes registry, quota, pool and recovery, and serves gateways. Started by the keeper; when
// the keeper is gone it goes too, while its workers stay.
import { availableParallelism } from 'node:os';
import { statePaths } from '../shared/state-dir.ts';
import { supervisorContract, type SupervisorContract } from '../shared/contracts/supervisor.ts';
import { noWriterNotices, writerContract } from '../shared/contracts/writer.ts';
import { createDiskReserve } from '../shared/disk-reserve.ts';
import { errorText } from '../shared/errors.ts';
import { faultPoint } from '../shared/fault.ts';
import { createTurns } from '../shared/in-turn.ts';
import { createLink } from '../shared/ipc/link.ts';
import { serveContract } from '../shared/ipc/server.ts';
import { firstBlockOf } from '../shared/id-ranges.ts';
import { limits } from '../shared/limits.ts';
import { createLogger, logWarnings } from '../shared/log.ts';
import { createHopMeter, createMeters } from '../shared/metrics.ts';
import { takeOrders } from '../shared/own-process.ts';
import { ownUnit } from '../shared/service-group.ts';
import { openReader } from '../shared/store/reader.ts';
import type { BoxRow } from '../shared/store/rows.ts';
import { isGoingDown } from '../shared/systemd.ts';
import { createBox, type SupervisedBox } from './box.ts';
import { createBoxRegistry } from './box-registry.ts';
import { createBoxWorker } from './box-worker.ts';
import { createControl } from './control.ts';
import { findDisorder } from './disorder.ts';
import { watchDisk } from './disk-watch.ts';
import { createImageGate } from './image-gate.ts';
import { createSupervisorMeters, logged, measured } from './meters.ts';
import { createQuota } from './quota.ts';
import { createReconciliation } from './reconciliation.ts';
import { recover } from './recovery.ts';
import { createSpills } from './spills.ts';
import { createWarmPool } from './warm-pool.ts';
import { createWatchHandlers } from './watch.ts';
import { startWorker, type FoundWorker, type WorkerDeps, type WorkerHandle } from './worker-handle.ts';

const { orders, ready, parentGone } = takeOrders();
const { config } = orders;
process.title = 'boxrun supervisor';
const log = createLogger('supervisor', config);
logWarnings(log);
void parentGone.then(() => {
  log.warn('the keeper is gone');
  process.exit(0);
});
process.on('SIGINT', () => undefined); // A terminal's Ctrl-C is the keeper's business.

const paths = statePaths(config.stateDir);
const meters = createMeters('supervisor');
const hop = createHopMeter(meters);
const writer = createLink({
  observe: hop('supervisor_writer'),
  path: paths.writerSocket,
  contract: writerContract,
  hello: { role: 'supervisor' },
  notices: noWriterNotices,
});
const { instanceId } = (await writer.ready(limits.childReadyMs)).hello;
const reader = openReader(config.dbPath);
const registry = createBoxRegistry(config.caps.boxes, firstBlockOf(instanceId));
const quota = createQuota({ cpu: config.maxCpu, memoryMb: config.maxMemoryMb, workers: config.maxWorkers }, () => {
  pool.fill();
});
const gate = createImageGate();
const spills = createSpills(config, log);
const census = new Set<WorkerHandle>();
const turns = {
  workerStarts: createTurns(limits.workerStartsPerCpu * availableParallelism()),
  boxes: createTurns(limits.boxTurnsPerCpu * availableParallelism(), limits.boxTurnMs),
};
const figures = createSupervisorMeters({
  meters,
  registry,
  census,
  writer,
  turns,
  limits: { cpu: config.maxCpu, memoryMb: config.maxMemoryMb },
  keeperFile: paths.keeperFile,
});
const starting = new Set<string>();
const workers: WorkerDeps = {
  config,
  log,
  census,
  starting,
  onLost: figures.workerLost,
  observe: hop('supervisor_worker'),
};
const pool = createWarmPool({
  size: () => Math.min(config.spareWorkers, quota.sparable()),
  start: () => turns.workerStarts.take(() => startWorker(workers)),
  log,
});

function supervise(row: BoxRow, found: FoundWorker | null = null): SupervisedBox {
  const box: SupervisedBox = createBox(
    {
      writer,
      quota,
      log,
      worker: createBoxWorker({ writer, reader, pool, gate, turns: turns.boxes, spills, instanceId, log }, row, found),
      onRemoved() {
        registry.delete(box);
      },
      claimIdBlock: () => (row.driver === 'container' ? registry.claimIdBlock(row.id) : null),
      onNameFreed() {
        if (row.name !== null) registry.releaseName(row.name, row.id);
      },
    },
    row,
  );
  return box;
}

await recover({ config, reader, registry, quota, pool, workers, spills, log, supervise });
const disk = watchDisk({
  stateDir: config.stateDir,
  floorMb: config.caps.freeDiskMb,
  registry,
  reserve: createDiskReserve(config),
  log,
});
const control = createControl({ config, registry, quota, writer, reader, log, disk, supervise });
const server = await serveContract<SupervisorContract>({
  path: paths.supervisorSocket,
  contract: supervisorContract,
  hello: () => ({ pid: process.pid }),
  handlers: logged(
    { ...measured(control.handlers, meters), ...createWatchHandlers({ registry, census, figures, disk }) },
    log,
  ),
  log,
  onDisconnect: control.forgetGateway,
});
let ending: Promise<void> | null = null;
process.on('SIGTERM', () => {
  ending ??= end(); // Who ends a whole control group says so to this process, and the keeper does too.
});
faultPoint('supervisor.boot.listening');
ready();
const reconciliation = createReconciliation({
  meters,
  log,
  look: () => findDisorder({ config, instanceId, reader, registry, quota, pool, workers, supervise, log }),
});
reconciliation.start(config.reconcileEveryMs);
log.info({ instanceId, boxes: registry.all().length }, 'the supervisor is ready');

async function end(): Promise<void> {
  // Where the host goes down, nothing can run on: boxes end in order rather than when systemd kills what is left.
  const goesDown = await isGoingDown(ownUnit().owner);
  const onExit = goesDown ? 'stop' : config.onExit;
  log.info({ onExit, goesDown }, 'the supervisor ends');
  await server.close();
  disk.close();
  await reconciliation.close();
  await pool.close();
  const runs = registry.all().filter(({ row }) => row.ephemeral);
  await Promise.all(runs.map((box) => box.remove(true).catch(() => undefined))); // Else the next supervisor does it.
  if (onExit === 'stop') {
    const running = registry.all().filter(({ state }) => state === 'ready');
    await Promise.all(
      running.map((box) =>
        box.stop().catch((error: unknown) => {
          log.error({ boxId: box.id, reason: errorText(error) }, 'stopping a box at exit failed');
        }),
      ),
    );
  }
  process.exit(0);
}
