// What each request to the writer does: submit the change to the group commit, and after the commit publish its events.
// Served by main.ts to supervisor, workers, gateways and keeper. What is answered is committed.
import { timestamp } from '../shared/clock.ts';
import type { Event, ExecChange, WriterContract } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import type { Handlers } from '../shared/ipc/server.ts';
import type { Meters } from '../shared/metrics.ts';
import type { Batch } from './batch.ts';
import type { Followers } from './followers.ts';
import type { WriterMeters } from './meters.ts';
import type { Statements } from './statements.ts';

export interface ControlDeps {
  readonly batch: Batch;
  readonly statements: Statements;
  readonly followers: Followers;
  readonly meters: Pick<Meters, 'snapshot'>;
  readonly figures: WriterMeters;
  /** Says whether the writer leaves now. */
  readonly onRetire: () => boolean;
}

export function createHandlers({ batch, statements, followers, meters, figures, onRetire }: ControlDeps): Handlers<WriterContract> {
  return {
    async insertBox({ box, claim }) {
      await batch.submit(() => {
        if (claim !== undefined) statements.claimKey(claim, box.id, timestamp());
        statements.insertBox(box);
      });
      return null;
    },
    async keepAnswer({ scope, key, rowId, answer }) {
      await batch.submit(() => {
        statements.keepAnswer(scope, key, rowId, answer);
      });
      return null;
    },
    async updateBox({ boxId, change }) {
      await batch.submit(() => {
        statements.updateBox(boxId, change);
      });
      return null;
    },
    async removeBox({ boxId }) {
      while (!(await batch.submit(() => statements.removeBoxSlice(boxId))));
      return null;
    },
    async openLease({ boxId, generation }) {
      await batch.submit(() => {
        statements.openLease(boxId, generation);
      });
      return null;
    },
    async closeLease({ boxId, generation, reason }) {
      const ended = await batch.submit(() => statements.closeLease(boxId, generation, reason, timestamp()));
      figures.cutShort(ended.length);
      for (const { execId, event } of ended) followers.publish(execId, [event]);
      return { ended: ended.map(({ execId }) => execId) };
    },
    async changeExecs({ changes }, { peer }) {
      const identity = peer.hello;
      if (identity.role !== 'worker') throw new BoxRunError('FORBIDDEN', 'only workers change execs');
      const applied = await batch.submit(() => {
        statements.checkLease(identity.boxId, identity.generation);
        return changes.map(statements.changeExec).filter((change) => change !== null);
      }, changes.length);
      figures.applied(applied);
      for (const [execId, events] of eventsByExec(changes)) followers.publish(execId, events);
      return null;
    },
    follow({ execId }, { peer }) {
      followers.add(execId, peer);
      return { lastSeq: statements.lastSeq(execId) };
    },
    unfollow({ execId }, { peer }) {
      followers.remove(execId, peer);
      return null;
    },
    metrics: () => meters.snapshot(),
    async health() {
      // Where nobody changes anything at the moment, trying is the only way to find out that it works again.
      if (batch.isFailing) await batch.submit(statements.tryOut).catch(() => undefined);
      return { writable: !batch.isFailing };
    },
    retire: () => ({ leaving: onRetire() }),
  };
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
