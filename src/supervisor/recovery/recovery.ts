// Takes over from an earlier supervisor, before this one listens: sends the spills to the writer, finds the workers,
// and lets every box go on from the state in its row. The quota of every box is reserved before it ends, so that no new
// box gets CPUs or memory that an old one holds.
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
import type { Spills } from '../workers/spills.ts';
import type { WarmPool } from '../workers/warm-pool.ts';
import { isOutcomeUnknown, retryUntilDone } from '../workers/retry.ts';
import { findWorkers, type FoundWorker, type WorkerDeps } from '../workers/worker-handle.ts';
import { faultPoint } from '../../shared/faults/fault.ts';

export interface RecoveryDeps {
  readonly config: Config;
  readonly reader: Pick<Reader, 'boxRows'>;
  readonly registry: BoxRegistry;
  readonly quota: Quota;
  readonly pool: WarmPool;
  /** The workers that are found are added to these. */
  readonly workers: WorkerDeps;
  readonly spills: Pick<Spills, 'sendAll'>;
  readonly log: Logger;
  readonly supervise: (row: BoxRow, found: FoundWorker | null) => SupervisedBox;
}

/**
 * Resolves when every box is in the registry and its quota is reserved. Boxes that need work go on with it in the
 * background. Workers have limits.adoptHelloMs to say hello; for a slower worker only its own box waits.
 */
export async function recover(deps: RecoveryDeps): Promise<void> {
  const { pool, spills, log } = deps;
  await sendSpills(spills, log);
  faultPoint('supervisor.adoption.spills-sent');
  const found = await findWorkers(deps.workers);
  await settledWithin(Promise.allSettled(found.map(({ arrival }) => arrival)), limits.adoptHelloMs);
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
    void worker.end().catch(() => undefined); // If it does not die, reconciliation tries again.
  }
  const adoptions = found.filter(({ boxId }) => boxId === null).map((worker) => adoptSpare(deps, worker));
  // The spares that have said hello must be in the pool before `fill` counts them. Otherwise the pool would start
  // another one for each. `setImmediate` lets these adoptions finish, without a wait for slower ones.
  await Promise.race([Promise.allSettled(adoptions), setImmediate()]);
  faultPoint('supervisor.adoption.boxes-known');
  pool.fill();
}

/**
 * If the writer does not take the spills now, for example because its disk is full, they are sent again in the
 * background. They also go before the lease of their box is closed: see box-lease.ts.
 */
async function sendSpills(spills: Pick<Spills, 'sendAll'>, log: Logger): Promise<void> {
  try {
    await spills.sendAll();
  } catch (error) {
    if (!isOutcomeUnknown(error)) throw error;
    log.warn({ err: error }, 'the spills of workers cannot be sent to the writer yet');
    void retryUntilDone(() => spills.sendAll()).catch((problem: unknown) => {
      log.error({ err: problem }, 'the spills of workers cannot be sent to the writer');
    });
  }
}

/** Puts a spare into the pool if it fits this supervisor, and ends it otherwise. */
async function adoptSpare({ config, pool, log }: RecoveryDeps, { arrival }: FoundWorker): Promise<void> {
  const worker = await arrival.catch(() => null); // findWorkers logs the error. Reconciliation tries to end the worker.
  if (worker === null) return;
  const { boxId, build, settingsDigest: digest } = worker.peer.hello;
  if (boxId === null && build === buildId && digest === settingsDigest(config)) {
    pool.adopt(worker);
    return;
  }
  // A spare of another build may not know all options of a new box. A spare with other settings would apply those to
  // the box. A worker whose hello names a box, although its state file did not, was assigned a moment ago. It has done
  // nothing for the box yet.
  await (boxId === null ? worker.stop() : worker.kill()).catch((error: unknown) => {
    log.error({ err: error, workerId: worker.workerId }, 'a worker cannot be killed');
  });
}

/**
 * Makes the box of a row known to this supervisor. It is in the registry and has its quota when this call returns.
 * @returns resolves when the box has gone on from the state in its row
 */
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
