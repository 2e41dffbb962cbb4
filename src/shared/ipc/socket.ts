// Unix sockets for IPC: bind so that nobody's path is taken from under them, connect under a deadline.
// A server's path appears by rename once it listens, with mode 0600.
import { chmod, rename, unlink } from 'node:fs/promises';
import { connect, type Server, type Socket } from 'node:net';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';

/**
 * Lets `server` listen at `path`. Whatever stale socket was there is replaced in one step; who may do so is decided by
 * the caller's lock. Closing `server` later does not unlink the path: a successor may own it by then.
 * @throws RUNTIME_ERROR when the path is too long for the kernel
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
    // Not to be shared by processes that share a port.
    server.listen({ path: temporary, exclusive: true }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  await chmod(temporary, 0o600);
  await rename(temporary, path);
}

/**
 * Connects to `path`.
 * @throws UNAVAILABLE when nobody listens there or the deadline (limits.connectTimeoutMs) passes
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
