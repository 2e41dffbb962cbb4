// First use of an image, one box at a time: pull, unpack and conversion are then done once, and the others find them ready.
// An image whose first use has gone well is open to all.

import { BoxRunError } from '../shared/errors.ts';

export interface ImageGate {
  /**
   * Runs `work` alone while `key` is not proven; rejects with what `work` rejects with, or with CANCELED when `signal` aborts
   * while it still waits for its turn.
   */
  pass<T>(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
}

export function createImageGate(): ImageGate {
  const proven = new Set<string>();
  const inside = new Map<string, Promise<unknown>>();

  return {
    async pass(key, work, signal) {
      for (let other = inside.get(key); other !== undefined && !proven.has(key); other = inside.get(key)) {
        await settledOrAborted(other, signal);
        if (signal?.aborted) throw new BoxRunError('CANCELED', 'canceled while waiting for another first use of the image');
      }
      if (proven.has(key)) return work();
      const running = work();
      inside.set(key, running);
      try {
        const value = await running;
        proven.add(key);
        return value;
      } finally {
        inside.delete(key);
      }
    },
  };
}

function settledOrAborted(work: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      signal?.removeEventListener('abort', done);
      resolve();
    };
    signal?.addEventListener('abort', done, { once: true });
    work.then(done, done);
  });
}
