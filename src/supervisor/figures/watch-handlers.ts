// Answers requests for metrics, usage and health of the server. Nothing here changes a box, and every request is
// answered in time even while workers hang.
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import type { ClientPeer, Handlers } from '../../shared/ipc/server.ts';
import type { MetricsSnapshot } from '../../shared/observe/metrics-snapshot.ts';
import { publicStatus } from '../../shared/lifecycle/box.ts';
import { heldBy, type BoxRegistry } from '../boxes/box-registry.ts';
import type { DiskWatch } from '../boxes/disk-watch.ts';
import type { SupervisorMeters } from './meters.ts';
import { askWorkers } from './worker-figures.ts';
import type { WorkerHandle } from '../workers/worker-handle.ts';

type Gateway = ClientPeer<SupervisorContract>;

export interface WatchDeps {
  readonly registry: Pick<BoxRegistry, 'all'>;
  readonly liveWorkers: ReadonlySet<WorkerHandle>;
  readonly figures: Pick<SupervisorMeters, 'gather'>;
  readonly disk: Pick<DiskWatch, 'hasRoom'>;
}

export function createWatchHandlers({
  registry,
  liveWorkers,
  figures,
  disk,
}: WatchDeps): Pick<Handlers<SupervisorContract>, 'health' | 'metrics' | 'reportFigures' | 'usage'> {
  const reported = new Map<Gateway, MetricsSnapshot>();
  return {
    reportFigures({ figures: ownFigures }, { peer }) {
      if (!reported.has(peer)) void peer.closed.then(() => reported.delete(peer));
      reported.set(peer, ownFigures);
      return null;
    },
    async metrics(_, { peer }) {
      // The gateway that asks adds its own figures.
      const others = [...reported].filter(([gateway]) => gateway !== peer);
      return [...(await figures.gather()), ...others.map(([, ownFigures]) => ownFigures)];
    },
    async usage() {
      const answers = await askWorkers(liveWorkers);
      const engines = answers.flatMap(({ figures: own }) =>
        own === null || own.boxId === null || own.engine === null
          ? []
          : [{ boxId: own.boxId, ...own.engine, ...(own.agent === undefined ? {} : { agent: own.agent }) }],
      );
      const all = registry.all();
      const held = heldBy(all);
      return {
        cpusHeld: held.cpus,
        memoryHeldMb: held.memoryMb,
        boxes: all.length,
        running: all.filter(({ state }) => publicStatus(state) === 'running').length,
        engines,
      };
    },
    health() {
      const silent = [...liveWorkers].filter(({ peer }) => !peer.isAnswering);
      return { workers: liveWorkers.size, silentWorkers: silent.length, diskHasRoom: disk.hasRoom };
    },
  };
}
