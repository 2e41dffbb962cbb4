// Asks all workers at once for the figures of their process and their engine.
// A worker that does not answer within limits.healthTimeoutMs counts as silent.
import type { WorkerContract } from '../../shared/contracts/worker.ts';
import type { ResultOf } from '../../shared/ipc/contract.ts';
import type { WorkerHandle } from '../workers/worker-handle.ts';

export interface WorkerFigures {
  readonly worker: WorkerHandle;
  /** Null when the worker did not answer in time. */
  readonly figures: ResultOf<WorkerContract, 'figures'> | null;
}

export function askWorkers(liveWorkers: ReadonlySet<WorkerHandle>): Promise<WorkerFigures[]> {
  return Promise.all(
    [...liveWorkers].map(async (worker) => ({
      worker,
      // A worker that is silent already is not asked, so that nobody waits for it. It counts all the same.
      figures: worker.peer.isAnswering ? await worker.peer.request('figures', {}).catch(() => null) : null,
    })),
  );
}
