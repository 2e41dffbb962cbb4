// What a supervisor does before it listens: sends on what workers spilled, finds the workers of its predecessor, and lets every
// box go on from the state in its row. Quota is taken from the rows first, so that no new box gets what an old one holds.
import { buildId } from '../shared/build.ts';
import { type Config } from '../shared/config.ts';
import { withDeadline } from '../shared/clock.ts';
import { holdsQuota } from '../shared/lifecycle/box.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/log.ts';
import type { Reader } from '../shared/store/reader.ts';
import type { BoxRow } from '../shared/store/rows.ts';
import type { SupervisedBox } from './box.ts';
import type { BoxRegistry } from './box-registry.ts';
import type { Quota } from './quota.ts';
import type { Spills } from './spills.ts';
import type { WarmPool } from './warm-pool.ts';
import { findWorkers, type WorkerDeps, type WorkerHandle } from './worker-handle.ts';
import { faultPoint } from '../shared/fault.ts';

export interface RecoveryDeps {
  readonly config: Config;
  readonly reader: Pick<Reader, 'boxRows'>;
  readonly registry: BoxRegistry;
  readonly quota: Quota;
  readonly pool: WarmPool;
  /** For the workers that are found. */
  readonly workers: WorkerDeps;
  readonly spills: Pick<Spills, 'sendAll'>;
  readonly log: Logger;
  readonly supervise: (row: BoxRow, adopted: WorkerHandle | null) => SupervisedBox;
}

/** Resolves when every box is known and its quota taken; boxes that need work go on with it in the background. */
export async function recover(deps: RecoveryDeps): Promise<void> {
  const { pool, spills, log } = deps;
  await spills.sendAll();
  faultPoint('supervisor.adoption.spills-sent');
  const workers = await livingWorkers(deps);
  faultPoint('supervisor.adoption.workers-found');
  for (const row of deps.reader.boxRows()) {
    const worker = workers.get(row.id) ?? null;
    const fits = worker !== null && worker.peer.hello.generation === row.generation;
    workers.delete(row.id);
    // A worker of another generation holds the box's home: it must be dead before a successor comes.
    if (worker !== null && !fits) await worker.kill();
    void takeUp(deps, row, fits ? worker : null).catch((error: unknown) => {
      log.error({ err: error, boxId: row.id }, 'a box could not go on after the restart');
    });
  }
  for (const [boxId, worker] of workers) {
    log.warn({ boxId, workerId: worker.workerId }, 'a worker has a box that is not in the database; it is killed');
    await worker.kill();
  }
  faultPoint('supervisor.adoption.boxes-known');
  pool.fill();
}

/** A box that is known from its row alone: known and counted at once; resolves when it has gone on from there. */
export function takeUp({ registry, quota, supervise }: Pick<RecoveryDeps, 'registry' | 'quota' | 'supervise'>, row: BoxRow, worker: WorkerHandle | null): Promise<void> {
  const box = supervise(row, worker);
  registry.add(box);
  if (holdsQuota(row.state)) quota.adopt(row.id, row.cpu, row.memory_mb);
  return box.resume();
}

/** By box. Spares go to the pool, except those of another build: they may not know all that a new box asks for. */
async function livingWorkers({ pool, workers: deps, log }: RecoveryDeps): Promise<Map<string, WorkerHandle>> {
  const found = findWorkers(deps);
  const workers = new Map<string, WorkerHandle>();
  for (const worker of await withDeadline(found, limits.adoptTimeoutMs, 'finding workers')) {
    const { boxId, build } = worker.peer.hello;
    if (boxId !== null) workers.set(boxId, worker);
    else if (build === buildId) pool.adopt(worker);
    else void dismissOld(worker, log);
  }
  return workers;
}

async function dismissOld(spare: WorkerHandle, log: Logger): Promise<void> {
  log.info({ workerId: spare.workerId }, 'a spare worker of another build is sent away');
  await spare.dismiss().catch((error: unknown) => {
    log.error({ err: error, workerId: spare.workerId }, 'a spare worker of another build does not go');
  });
}
