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
  const asked = [...liveWorkers].filter(({ peer }) => peer.isAnswering);
  return Promise.all(
    asked.map(async (worker) => ({
      worker,
      figures: await worker.peer.request('figures', {}).catch(() => null),
    })),
  );
}
