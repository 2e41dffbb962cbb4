// What the supervisor tells whoever watches the server: nothing here changes anything. Served beside control.ts by main.ts.
// It answers while boxes are in trouble, too.
import type { SupervisorContract } from '../shared/contracts/supervisor.ts';
import type { Handlers } from '../shared/ipc/server.ts';
import type { SupervisorMeters } from './meters.ts';
import type { WorkerHandle } from './worker-handle.ts';

export interface WatchDeps {
  readonly census: ReadonlySet<WorkerHandle>;
  readonly figures: Pick<SupervisorMeters, 'gather'>;
}

export function createWatchHandlers({ census, figures }: WatchDeps): Pick<Handlers<SupervisorContract>, 'health' | 'metrics'> {
  return {
    metrics: () => figures.gather(),
    health() {
      const silent = [...census].filter(({ peer }) => !peer.isAnswering);
      return { workers: census.size, silentWorkers: silent.length };
    },
  };
}
