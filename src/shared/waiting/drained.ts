// Waits until a connection has room for more bytes. A long transfer waits a hundred thousand times on one connection,
// so a wait removes all its listeners when it ends.
import type { Writable } from 'node:stream';

/**
 * Resolves when `writable` accepts more bytes, when it is closed, or when `over` aborts. Call it after `write` has
 * returned false, and then check whether the stream is closed.
 */
export function drained(writable: Writable, over?: AbortSignal): Promise<void> {
  if (writable.closed || over?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      writable.off('drain', done);
      writable.off('close', done);
      over?.removeEventListener('abort', done);
      resolve();
    };
    writable.on('drain', done);
    writable.on('close', done);
    over?.addEventListener('abort', done);
  });
}
