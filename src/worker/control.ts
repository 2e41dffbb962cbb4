// The handlers of the requests to a worker. A spare worker has no box: it refuses every request about a box until
// `assign` gives it one, once and for good.
import type { WorkerSettings } from '../shared/contracts/settings.ts';
import type { WorkerContract, Assignment } from '../shared/contracts/worker.ts';
import { BoxRunError } from '../shared/errors.ts';
import type { Handlers } from '../shared/ipc/server.ts';
import type { HeldBox } from './commands/held-box.ts';
import type { Streams } from './streams.ts';

export interface ControlDeps {
  readonly heldBox: () => HeldBox | null;
  readonly assign: (assignment: Assignment) => Promise<void>;
  readonly takeSettings: (settings: WorkerSettings) => void;
  readonly stop: () => Promise<void>;
  readonly streams: Pick<Streams, 'grant'>;
}

export function createHandlers({
  heldBox,
  assign,
  takeSettings,
  stop,
  streams,
}: ControlDeps): Handlers<WorkerContract> {
  const box = (): HeldBox => {
    const assigned = heldBox();
    if (assigned === null) throw new BoxRunError('BOX_NOT_RUNNING', 'this worker has no box');
    return assigned;
  };
  return {
    async assign(assignment) {
      if (heldBox() !== null) throw new BoxRunError('BOX_ALREADY_RUNNING', 'this worker has a box already');
      await assign(assignment);
      return null;
    },
    async prepareImage(_, { progress, signal }) {
      await box().prepareImage(progress, signal);
      return null;
    },
    create: (_, { progress, signal }) => box().create(progress, signal),
    async start(_, { progress, signal }) {
      await box().start(progress, signal);
      return null;
    },
    adopt: () => box().adopt(),
    async endStrays({ finishedExecs, keptExecs = [] }) {
      await box().endStrays(new Set(finishedExecs), new Set(keptExecs));
      return null;
    },
    // A supervisor of the version before sends this instead of adopt and endStrays.
    async reattach({ finishedExecs }) {
      const { running } = await box().adopt();
      if (running) await box().endStrays(new Set(finishedExecs), new Set());
      return { running };
    },
    resumeExecs({ execs }) {
      box().resumeExecs(execs);
      return null;
    },
    exec: (order) => box().exec(order),
    cancel: ({ execId }) => box().cancel(execId),
    signal: ({ execId, signal }) => box().signal(execId, signal),
    async grant({ operation }) {
      const direct = await box().takesDirect(operation);
      return { ...streams.grant(operation), ...(direct ? { direct } : {}) };
    },
    async stop({ graceMs }) {
      await box().stop(graceMs);
      return null;
    },
    async remove({ graceMs }) {
      await box().remove(graceMs);
      return null;
    },
    async figures() {
      const assigned = heldBox();
      const own =
        assigned === null ? { unacknowledgedBytes: 0, outputPauses: 0, engine: null } : await assigned.figures();
      return {
        boxId: assigned?.boxId ?? null,
        execsRunning: assigned?.execCount ?? 0,
        residentBytes: process.memoryUsage.rss(),
        ...own,
      };
    },
    stats: () => box().stats(),
    processes: () => box().processes(),
    ports: (wait, { signal }) => box().ports(wait, signal),
    async signalProcess({ pid, signal }) {
      await box().signalProcess(pid, signal);
      return null;
    },
    settings(given) {
      takeSettings(given);
      return null;
    },
    async leave() {
      await stop();
      return null;
    },
  };
}
