// The last changes of boxes and execs, numbered in the order of their commits, for gateways that watch. In memory alone
// and bounded: a run of the writer has a name of its own, and whoever asks for what is not here any more is told so.
import { randomBytes } from 'node:crypto';
import type { Box, Exec, StateKind } from '../shared/api.ts';
import { timestamp } from '../shared/waiting/clock.ts';
import type { StateEvent, StatePage, StatePosition, WriterContract } from '../shared/contracts/writer.ts';
import type { ClientPeer } from '../shared/ipc/server.ts';
import { limits } from '../shared/limits.ts';

type Peer = ClientPeer<WriterContract>;

/** What a change has made of a box or an exec, as clients see it. */
export type StateChange =
  | { readonly kind: Extract<StateKind, `box.${string}`>; readonly box: Box }
  | { readonly kind: Extract<StateKind, `exec.${string}`>; readonly exec: Exec };

export interface StateLog {
  /** Called after the commit, in the order of commits. */
  record(changes: readonly StateChange[]): void;
  /** One page of what came after `position`; of null, the position alone. */
  after(position: StatePosition | null): StatePage;
  watch(peer: Peer): void;
  unwatch(peer: Peer): void;
}

export function createStateLog(): StateLog {
  // Hexadecimal: an id must never look like an option on a command line.
  const run = randomBytes(8).toString('hex');
  const watchers = new Set<Peer>();
  const kept: StateEvent[] = [];
  let keptBytes = 0;
  let lastSeq = 0;

  function keep({ kind, ...state }: StateChange): StateEvent {
    const event = { seq: ++lastSeq, kind, json: JSON.stringify({ at: timestamp(), ...state }) };
    kept.push(event);
    keptBytes += event.json.length;
    while (kept.length > limits.statesKeptMax || (keptBytes > limits.statesKeptBytesMax && kept.length > 1)) {
      keptBytes -= kept.shift()?.json.length ?? 0;
    }
    return event;
  }

  return {
    record(changes) {
      const events = changes.map(keep);
      for (const peer of watchers) {
        for (let from = 0; from < events.length;) {
          const piece = firstPage(events, from);
          from += piece.length;
          if (peer.bufferedBytes() > limits.followerBufferBytesMax) {
            watchers.delete(peer);
            peer.notify('statesLagged', {});
            break;
          }
          peer.notify('states', { run, events: piece });
        }
      }
    },
    after(position) {
      const oldest = kept[0]?.seq ?? lastSeq + 1;
      const isKnown =
        position !== null && position.run === run && position.seq >= oldest - 1 && position.seq <= lastSeq;
      if (!isKnown) return { position: { run, seq: lastSeq }, events: [], more: false, isGap: position !== null };
      const events = firstPage(kept, position.seq + 1 - oldest);
      const seq = events.at(-1)?.seq ?? position.seq;
      return { position: { run, seq }, events, more: seq < lastSeq, isGap: false };
    },
    watch(peer) {
      watchers.add(peer);
    },
    unwatch(peer) {
      watchers.delete(peer);
    },
  };
}

/** As many events from `from` on as go into one message; at least one, if there is one. */
function firstPage(events: readonly StateEvent[], from: number): StateEvent[] {
  let bytes = 0;
  let to = from;
  while (to < events.length && (to === from || bytes < limits.replayPageBytes)) bytes += events[to++]?.json.length ?? 0;
  return events.slice(from, to);
}
