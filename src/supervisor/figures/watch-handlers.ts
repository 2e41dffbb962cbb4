// What the supervisor tells whoever watches the server: nothing here changes anything. Served beside control.ts by
// main.ts. It answers while boxes are in trouble, too.
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import type { ClientPeer, Handlers } from '../../shared/ipc/server.ts';
import type { MetricsSnapshot } from '../../shared/observe/metrics-snapshot.ts';
import { publicStatus } from '../../shared/lifecycle/box.ts';
import { heldBy, type BoxRegistry } from '../boxes/box-registry.ts';
import type { DiskWatch } from '../admission/disk-watch.ts';
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
    reportFigures({ figures: said }, { peer }) {
      if (!reported.has(peer)) void peer.closed.then(() => reported.delete(peer));
      reported.set(peer, said);
      return null;
    },
    async metrics(_, { peer }) {
      const others = [...reported].filter(([gateway]) => gateway !== peer);
      return [...(await figures.gather()), ...others.map(([, said]) => said)];
    },
    async usage() {
      const asked = await askWorkers(liveWorkers);
      const engines = asked.flatMap(({ figures: of }) =>
        of === null || of.boxId === null || of.engine === null ? [] : [{ boxId: of.boxId, ...of.engine }],
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
