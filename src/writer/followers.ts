// The gateways that follow the output events of a command. They get events only after the commit.
// A gateway that is too slow gets one `lagged` notice and is removed; it reads the other events from the database.
import type { Event, WriterContract } from '../shared/contracts/writer.ts';
import type { ClientPeer } from '../shared/ipc/server.ts';
import { limits } from '../shared/limits.ts';

type Peer = ClientPeer<WriterContract>;

export interface Followers {
  add(execId: string, peer: Peer): void;
  remove(execId: string, peer: Peer): void;
  /** Removes the peer from all commands. */
  removePeer(peer: Peer): void;
  /** Must be called after the commit, in the order of commits. */
  publish(execId: string, events: Event[]): void;
}

export function createFollowers(): Followers {
  const byExec = new Map<string, Set<Peer>>();

  function remove(execId: string, peer: Peer): void {
    const peers = byExec.get(execId);
    if (peers?.delete(peer) && peers.size === 0) byExec.delete(execId);
  }

  return {
    add(execId, peer) {
      const peers = byExec.get(execId) ?? new Set();
      byExec.set(execId, peers.add(peer));
    },
    remove,
    removePeer(peer) {
      for (const execId of [...byExec.keys()]) remove(execId, peer);
    },
    publish(execId, events) {
      for (const peer of [...(byExec.get(execId) ?? [])]) {
        if (peer.bufferedBytes() > limits.followerBufferBytesMax) {
          remove(execId, peer);
          peer.notify('lagged', { execId });
        } else {
          peer.notify('events', { execId, events });
        }
      }
    },
  };
}
