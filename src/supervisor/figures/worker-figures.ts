// What workers say of themselves and of the engines that they hold, all asked at once.
// Whoever does not answer in time counts as silent. Used by meters.ts and watch.ts.
import type { WorkerContract } from '../../shared/contracts/worker.ts';
import type { ResultOf } from '../../shared/ipc/contract.ts';
import { limits } from '../../shared/limits.ts';
import type { WorkerHandle } from '../workers/worker-handle.ts';

export interface WorkerFigures {
  readonly worker: WorkerHandle;
  /** Null when it did not answer. */
  readonly figures: ResultOf<WorkerContract, 'figures'> | null;
}

export function askWorkers(liveWorkers: ReadonlySet<WorkerHandle>): Promise<WorkerFigures[]> {
  const asked = [...liveWorkers].filter(({ peer }) => peer.isAnswering);
  return Promise.all(
    asked.map(async (worker) => ({
      worker,
      figures: await worker.peer.request('figures', {}, { timeoutMs: limits.healthTimeoutMs }).catch(() => null),
    })),
  );
}
