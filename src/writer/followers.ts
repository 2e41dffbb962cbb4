// Who follows which exec: committed events go out to those gateways, and to nobody before the commit.
// A gateway that takes them too slowly is told so once and forgotten; it reads the rest from the database.
import type { Event, WriterContract } from '../shared/contracts/writer.ts';
import type { ClientPeer } from '../shared/ipc/server.ts';
import { limits } from '../shared/limits.ts';

type Peer = ClientPeer<WriterContract>;

export interface Followers {
  add(execId: string, peer: Peer): void;
  remove(execId: string, peer: Peer): void;
  removePeer(peer: Peer): void;
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
