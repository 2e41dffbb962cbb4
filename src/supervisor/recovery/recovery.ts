// What a supervisor does before it listens: sends on what workers spilled, finds the workers of its predecessor, and
// lets every box go on from the state in its row. Quota is taken from the rows first, so that no new box gets what an
// old one holds.
import { setImmediate } from 'node:timers/promises';
import { buildId } from '../../shared/process/build.ts';
import { type Config } from '../../shared/settings/config.ts';
import { settledWithin } from '../../shared/waiting/clock.ts';
import { settingsDigest } from '../../shared/contracts/settings.ts';
import { holdsQuota } from '../../shared/lifecycle/box.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { Reader } from '../../shared/store/reader.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { SupervisedBox } from '../boxes/box.ts';
import type { BoxRegistry } from '../boxes/box-registry.ts';
import type { Quota } from '../admission/quota.ts';
import type { Spills } from './spills.ts';
import type { WarmPool } from '../workers/warm-pool.ts';
import { isOutcomeUnknown, retryUntilDone } from '../boxes/retry.ts';
import { findWorkers, type FoundWorker, type WorkerDeps } from '../workers/worker-handle.ts';
import { faultPoint } from '../../shared/faults/fault.ts';

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
  readonly supervise: (row: BoxRow, found: FoundWorker | null) => SupervisedBox;
}

/**
 * Resolves when every box is known and its quota taken; boxes that need work go on with it in the background. Workers
 * that answer are there by then. One that does not is waited for by its own box, and by nobody else.
 */
export async function recover(deps: RecoveryDeps): Promise<void> {
  const { pool, spills, log } = deps;
  await sendSpills(spills, log);
  faultPoint('supervisor.adoption.spills-sent');
  const found = await findWorkers(deps.workers);
  await settledWithin(Promise.allSettled(found.map(({ arrival }) => arrival)), limits.adoptPatienceMs);
  faultPoint('supervisor.adoption.workers-found');
  const byBox = new Map(found.flatMap((worker) => (worker.boxId === null ? [] : [[worker.boxId, worker] as const])));
  for (const row of deps.reader.boxRows()) {
    const worker = byBox.get(row.id) ?? null;
    byBox.delete(row.id);
    void resumeBox(deps, row, worker).catch((error: unknown) => {
      log.error({ err: error, boxId: row.id }, 'a box could not go on after the restart');
    });
  }
  for (const worker of byBox.values()) {
    log.warn(
      { boxId: worker.boxId, workerId: worker.workerId },
      'a worker has a box that is not in the database; it is killed',
    );
    void worker.end().catch(() => undefined); // It is logged, and reconciliation tries again.
  }
  const adoptions = found.filter(({ boxId }) => boxId === null).map((worker) => adoptSpare(deps, worker));
  // Spares that have arrived are in the pool before it counts them, or it would start another one for each.
  await Promise.race([Promise.allSettled(adoptions), setImmediate()]);
  faultPoint('supervisor.adoption.boxes-known');
  pool.fill();
}

/**
 * What the writer does not take now (its disk is full, say) goes when it can: before the lease of its box is closed, in
 * any case.
 */
async function sendSpills(spills: Pick<Spills, 'sendAll'>, log: Logger): Promise<void> {
  try {
    await spills.sendAll();
  } catch (error) {
    if (!isOutcomeUnknown(error)) throw error;
    log.warn({ err: error }, 'what workers spilled cannot be sent yet');
    void retryUntilDone(() => spills.sendAll()).catch((problem: unknown) => {
      log.error({ err: problem }, 'what workers spilled cannot be sent');
    });
  }
}

/** One that got a box, and had no time to write that down, has done nothing for it yet. */
async function adoptSpare({ config, pool, log }: RecoveryDeps, { arrival }: FoundWorker): Promise<void> {
  const worker = await arrival.catch(() => null); // It is logged, and reconciliation tries again.
  if (worker === null) return;
  const { boxId, build, settingsDigest: digest } = worker.peer.hello;
  if (boxId === null && build === buildId && digest === settingsDigest(config)) {
    pool.adopt(worker);
    return;
  }
  // A spare of another build may not know all that a new box asks for, and one of other settings would bring it up with
  // those.
  await (boxId === null ? worker.stop() : worker.kill()).catch((error: unknown) => {
    log.error({ err: error, workerId: worker.workerId }, 'a worker cannot be killed');
  });
}

/** A box that is known from its row alone: known and counted at once; resolves when it has gone on from there. */
export function resumeBox(
  { registry, quota, supervise }: Pick<RecoveryDeps, 'registry' | 'quota' | 'supervise'>,
  row: BoxRow,
  worker: FoundWorker | null,
): Promise<void> {
  const box = supervise(row, worker);
  registry.add(box);
  if (holdsQuota(row.state)) quota.adopt(row.id, row.cpu, row.memory_mb);
  return box.resume();
}
