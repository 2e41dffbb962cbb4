// Waiting for the slower side of a connection. Used by ipc/stream.ts, and by the gateway where it sends streams and
// files. A long transfer waits a hundred thousand times on one connection: whatever a wait leaves behind there would
// become its end.
import type { Writable } from 'node:stream';

/** Resolves when `writable` takes more, or never will: it is closed, or `over` aborts. */
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
