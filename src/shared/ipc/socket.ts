// Unix sockets for IPC. A server binds a temporary path and renames it when it listens, so a client that sees the path
// can always connect. Only the owner can use a socket (mode 0600). Connecting has a deadline.
import { chmod, rename, unlink } from 'node:fs/promises';
import { connect, type Server, type Socket } from 'node:net';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';

/**
 * Lets `server` listen at `path`. An old socket at this path is replaced in one step, so the caller must hold a lock if
 * another server may use it. Closing `server` later does not remove the path, because a successor may own it by then.
 * @throws RUNTIME_ERROR if the path is too long for the kernel
 */
export async function listenAt(server: Server, path: string): Promise<void> {
  const temporary = `${path}.${process.pid}`;
  if (Buffer.byteLength(temporary) > limits.socketPathBytesMax) {
    throw new BoxRunError('RUNTIME_ERROR', `socket path ${path} is longer than a Unix socket's can be`, {
      hint: 'use a shorter state directory',
    });
  }
  await unlink(temporary).catch(() => undefined);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // `exclusive`: in a Node cluster, processes would else share this socket.
    server.listen({ path: temporary, exclusive: true }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  await chmod(temporary, 0o600);
  await rename(temporary, path);
}

/**
 * Connects to the socket at `path`.
 * @throws UNAVAILABLE if no process listens there, or after limits.connectTimeoutMs
 */
export function connectTo(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const fail = (reason: string) => {
      socket.destroy();
      reject(new BoxRunError('UNAVAILABLE', `cannot reach ${path}: ${reason}`));
    };
    const timer = setTimeout(() => {
      fail('no answer');
    }, limits.connectTimeoutMs);
    socket.once('error', (error) => {
      clearTimeout(timer);
      fail(error.message);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}
