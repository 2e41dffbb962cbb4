// The handlers of all requests to the writer. A request that changes something goes through the group commit; its
// events are published and its answer is sent only after the commit.
import { timestamp } from '../shared/waiting/clock.ts';
import type { Event, ExecChange, WriterContract, WriterSettings } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';
import type { Handlers } from '../shared/ipc/server.ts';
import type { Meters } from '../shared/observe/metrics.ts';
import type { Batch } from './batch.ts';
import type { Followers } from './followers.ts';
import type { WriterMeters } from './meters.ts';
import type { StateLog } from './state-log.ts';
import type { Statements } from './statements.ts';

export interface ControlDeps {
  readonly batch: Batch;
  readonly statements: Statements;
  readonly followers: Followers;
  readonly meters: Pick<Meters, 'snapshot'>;
  readonly figures: WriterMeters;
  readonly states: StateLog;
  readonly onSettings: (settings: WriterSettings) => void;
  /** The keeper does not need the writer any more. Returns whether the writer ends now. */
  readonly onRetire: () => boolean;
}

export function createHandlers(deps: ControlDeps): Handlers<WriterContract> {
  const { batch, statements, followers, states, figures } = deps;
  return {
    async insertBox({ box, claim }) {
      const created = await batch.submit(() => {
        if (claim !== undefined) statements.claimKey(claim, box.id, timestamp());
        const inserted = statements.insertBox(box);
        faultPoint('writer.insert-box.applied');
        return inserted;
      });
      faultPoint('writer.insert-box.committed');
      if (created !== null) states.record([{ kind: 'box.created', box: created }]);
      return null;
    },
    async keepAnswer({ scope, key, rowId, answer }) {
      await batch.submit(() => {
        statements.keepAnswer(scope, key, rowId, answer);
      });
      return null;
    },
    async updateBox({ boxId, change }) {
      const changed = await batch.submit(() => {
        const updated = statements.updateBox(boxId, change);
        faultPoint('writer.update-box.applied');
        return updated;
      });
      faultPoint('writer.update-box.committed');
      if (changed !== null) states.record([{ kind: 'box.changed', box: changed }]);
      return null;
    },
    async removeBox({ boxId }) {
      for (;;) {
        const { isDone, removed } = await batch.submit(() => statements.removeBoxSlice(boxId));
        if (removed !== null) states.record([{ kind: 'box.removed', box: removed }]);
        if (isDone) break;
        faultPoint('writer.remove-box.slice-gone');
      }
      faultPoint('writer.remove-box.committed');
      return null;
    },
    async openLease({ boxId, generation }) {
      await batch.submit(() => {
        statements.openLease(boxId, generation);
      });
      faultPoint('writer.open-lease.committed');
      return null;
    },
    async closeLease({ boxId, generation, reason, keptExecs = [] }) {
      const ended = await batch.submit(() => {
        statements.keepExecs(boxId, generation + 1, keptExecs);
        return statements.closeLease(boxId, generation, reason, timestamp());
      });
      faultPoint('writer.close-lease.committed');
      figures.cutShort(ended.length);
      states.record(ended.flatMap(({ state }) => state ?? []));
      for (const { exec, event } of ended) followers.publish(exec.id, [event]);
      return { ended: ended.map(({ exec }) => exec.id) };
    },
    async changeExecs({ changes }, { peer }) {
      const identity = peer.hello;
      if (identity.role !== 'worker') throw new BoxRunError('FORBIDDEN', 'only workers change execs');
      const applied = await batch.submit(
        () => {
          statements.checkLease(identity.boxId, identity.generation);
          const made = changes.flatMap((change) => statements.changeExec(change) ?? []);
          faultPoint('writer.change-execs.applied');
          return made;
        },
        {
          operations: changes.length,
          bytes: outputBytes(changes),
          isOutput: changes.every(isOutput),
          sender: identity.boxId,
        },
      );
      faultPoint('writer.change-execs.committed');
      figures.applied(applied);
      states.record(applied.flatMap(({ state }) => state ?? []));
      for (const [execId, events] of eventsByExec(changes)) followers.publish(execId, events);
      faultPoint('writer.change-execs.published');
      return null;
    },
    ...followHandlers(deps),
    ...watchHandlers(deps),
    ...keeperHandlers(deps),
  };
}

/** Requests that only the keeper sends. */
function keeperHandlers({ onSettings, onRetire }: ControlDeps) {
  return {
    settings(given) {
      onSettings(given);
      return null;
    },
    retire: () => ({ leaving: onRetire() }),
  } satisfies Partial<Handlers<WriterContract>>;
}

/** Requests of gateways that want notices: of the output events of a command, or of all state events. */
function followHandlers({ statements, followers, states }: ControlDeps) {
  return {
    follow({ execId }, { peer }) {
      followers.add(execId, peer);
      return { lastSeq: statements.lastSeq(execId) };
    },
    unfollow({ execId }, { peer }) {
      followers.remove(execId, peer);
      return null;
    },
    watchStates(_, { peer }) {
      states.watch(peer);
      return null;
    },
    unwatchStates(_, { peer }) {
      states.unwatch(peer);
      return null;
    },
    statesAfter: ({ position }) => states.after(position),
  } satisfies Partial<Handlers<WriterContract>>;
}

function isOutput(change: ExecChange): boolean {
  return change.op === 'event' && change.event.type === 'log';
}

function outputBytes(changes: readonly ExecChange[]): number {
  return changes.reduce((sum, change) => sum + (change.op === 'event' ? change.event.data.length : 0), 0);
}

function eventsByExec(changes: readonly ExecChange[]): Map<string, Event[]> {
  const events = new Map<string, Event[]>();
  for (const change of changes) {
    if (change.op !== 'event') continue;
    const list = events.get(change.execId);
    if (list === undefined) events.set(change.execId, [change.event]);
    else list.push(change.event);
  }
  return events;
}

/** Requests about the writer itself. */
function watchHandlers({
  batch,
  statements,
  meters,
}: ControlDeps): Pick<Handlers<WriterContract>, 'metrics' | 'health'> {
  return {
    metrics: () => meters.snapshot(),
    async health() {
      // If no client changes anything at the moment, only a test write shows that the database works again.
      if (batch.isFailing) await batch.submit(statements.writeTestRow).catch(() => undefined);
      return { writable: !batch.isFailing };
    },
  };
}
