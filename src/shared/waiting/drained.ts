// Waits until the other side of a connection has taken what was sent. A long transfer waits many thousand times on one
// connection, so a wait must not leave a listener behind: they would fill the memory.
import type { Writable } from 'node:stream';

/** Resolves when `writable` accepts more bytes, when it is closed, or when `over` aborts. */
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
