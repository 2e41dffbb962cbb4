// The socket at which a worker waits for the agent of a micro-VM. Every user in the VM can connect, so a connection
// counts only after it has said the token. Before that, it has few bytes, little time, and few places.
import { timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { limits } from '../../shared/limits.ts';
import { encodeLeave, encodeToken } from './frames.ts';

export interface AgentDoor {
  /** Only an agent that says this token comes in from now on. Null: none does. */
  setToken(token: string | null): void;
  /** Connections that have come in stay open. */
  close(): void;
}

/**
 * Listens at `path`, in place of the socket that may be there. Only the owner of the socket can connect.
 * @param onAgent gets each connection that has said the token
 */
export async function openAgentDoor(
  path: string,
  token: string,
  onAgent: (socket: Socket) => void,
): Promise<AgentDoor> {
  const door = new Door(onAgent);
  door.setToken(token);
  await door.listen(path);
  return door;
}

class Door implements AgentDoor {
  readonly #onAgent: (socket: Socket) => void;
  readonly #server: Server;
  /** Connections that have not said the token, the oldest first. */
  readonly #callers = new Set<Socket>();
  #expected: Buffer | null = null;

  constructor(onAgent: (socket: Socket) => void) {
    this.#onAgent = onAgent;
    this.#server = createServer((socket) => {
      this.#hear(socket);
    });
  }

  async listen(path: string): Promise<void> {
    // Node removes the socket that it has made, by its name. So the name is another one, and the next worker's socket
    // at `path` stays.
    const temporary = `${path}.${process.pid}`;
    rmSync(temporary, { force: true });
    this.#server.listen(temporary);
    await once(this.#server, 'listening');
    // For example, there may be no descriptor for a connection. The agent dials again.
    this.#server.on('error', () => undefined);
    this.#server.unref();
    chmodSync(temporary, 0o600);
    renameSync(temporary, path);
  }

  setToken(token: string | null): void {
    this.#expected = token === null ? null : encodeToken(token);
  }

  close(): void {
    this.#server.close();
    for (const caller of this.#callers) caller.destroy();
  }

  #hear(socket: Socket): void {
    // The agent says its token at once, so the oldest connection is the least likely one to be the agent's.
    const [oldest] = this.#callers;
    if (oldest !== undefined && this.#callers.size >= limits.agentCallersMax) {
      this.#callers.delete(oldest);
      oldest.destroy();
    }
    const expected = this.#expected;
    if (expected === null) {
      socket.destroy();
      return;
    }
    let said = Buffer.alloc(0);
    const timer = setTimeout(() => socket.destroy(), limits.helloTimeoutMs);
    this.#callers.add(socket);
    const hear = (piece: Buffer) => {
      said = Buffer.concat([said, piece]);
      if (said.length < expected.length) return;
      socket.off('data', hear);
      socket.off('close', end);
      end();
      // The agent says nothing behind the token until the worker has said hello.
      if (said.length === expected.length && timingSafeEqual(said, expected)) {
        this.#onAgent(socket);
        return;
      }
      // An agent of an earlier start has nothing to do any more.
      socket.write(encodeLeave());
      socket.destroySoon();
    };
    const end = () => {
      clearTimeout(timer);
      this.#callers.delete(socket);
    };
    socket.on('error', () => undefined); // 'close' follows.
    socket.on('close', end);
    socket.on('data', hear);
  }
}
