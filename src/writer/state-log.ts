// The newest state events, numbered in the order of their commits, for the gateways that watch them. They are only in
// memory, and their number is bounded. Each process of the writer has its own random name, so a gateway that asks for
// events that are not here any more learns that it has missed some.
import { randomBytes } from 'node:crypto';
import type { Box, Exec, StateKind } from '../shared/api.ts';
import { timestamp } from '../shared/waiting/clock.ts';
import type { StateEvent, StatePage, StatePosition, WriterContract } from '../shared/contracts/writer.ts';
import type { ClientPeer } from '../shared/ipc/server.ts';
import { limits } from '../shared/limits.ts';

type Peer = ClientPeer<WriterContract>;

/** A box or a command after a change, as clients see it. */
export type StateChange =
  | { readonly kind: Extract<StateKind, `box.${string}`>; readonly box: Box }
  | { readonly kind: Extract<StateKind, `exec.${string}`>; readonly exec: Exec };

export interface StateLog {
  /** Must be called after the commit, in the order of commits. */
  record(changes: readonly StateChange[]): void;
  /** One page of the events after `position`. For null: the present position, and no event. */
  after(position: StatePosition | null): StatePage;
  watch(peer: Peer): void;
  unwatch(peer: Peer): void;
}

export function createStateLog(): StateLog {
  // Hexadecimal, because the id must never look like an option on a command line.
  const run = randomBytes(8).toString('hex');
  const watchers = new Set<Peer>();
  const kept: StateEvent[] = [];
  let keptChars = 0;
  let lastSeq = 0;

  function keep({ kind, ...state }: StateChange): StateEvent {
    const event = { seq: ++lastSeq, kind, json: JSON.stringify({ at: timestamp(), ...state }) };
    kept.push(event);
    keptChars += event.json.length;
    while (kept.length > limits.statesKeptMax || (keptChars > limits.statesKeptCharsMax && kept.length > 1)) {
      keptChars -= kept.shift()?.json.length ?? 0;
    }
    return event;
  }

  return {
    record(changes) {
      const events = changes.map(keep);
      for (const peer of watchers) {
        for (let from = 0; from < events.length;) {
          const page = pageFrom(events, from);
          from += page.length;
          if (peer.bufferedBytes() > limits.followerBufferBytesMax) {
            watchers.delete(peer);
            peer.notify('statesLagged', {});
            break;
          }
          peer.notify('states', { run, events: page });
        }
      }
    },
    after(position) {
      const oldest = kept[0]?.seq ?? lastSeq + 1;
      const isKnown =
        position !== null && position.run === run && position.seq >= oldest - 1 && position.seq <= lastSeq;
      if (!isKnown) return { position: { run, seq: lastSeq }, events: [], more: false, isGap: position !== null };
      const events = pageFrom(kept, position.seq + 1 - oldest);
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

/** As many events from index `from` on as fit into one message; at least one, if there is one. */
function pageFrom(events: readonly StateEvent[], from: number): StateEvent[] {
  let bytes = 0;
  let to = from;
  while (to < events.length && (to === from || bytes < limits.replayPageBytes)) bytes += events[to++]?.json.length ?? 0;
  return events.slice(from, to);
}
