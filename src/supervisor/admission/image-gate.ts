// First use of an image, one box at a time: pull, unpack and conversion are then done once, and the others find them
// ready. An image whose first use has gone well is open to all. A pull that fails fails for all who waited for it.

import { BoxRunError } from '../../shared/errors.ts';

export interface ImageGate {
  /**
   * Runs `work` alone while `key` is not proven.
   * @throws what `work` throws; IMAGE_PULL_FAILED of another box's work while this one waits for it; CANCELED when
   * `signal`
   *   aborts while it waits
   */
  pass<T>(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
}

/** How the work of one box ended for those who waited: the failed pull, or null: the next one may try. */
type Outcome = BoxRunError | null;

export function createImageGate(): ImageGate {
  const proven = new Set<string>();
  const inside = new Map<string, Promise<Outcome>>();

  return {
    async pass(key, work, signal) {
      for (let other = inside.get(key); other !== undefined && !proven.has(key); other = inside.get(key)) {
        const failedPull = await outcomeOrAborted(other, signal);
        if (signal?.aborted)
          throw new BoxRunError('CANCELED', 'canceled while waiting for another first use of the image');
        if (failedPull !== null) throw failedPull;
      }
      if (proven.has(key)) return work();
      const running = work();
      inside.set(
        key,
        running.then(() => null, pullFailure),
      );
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

/** Every other failure may be one of the box, its worker or its client. */
function pullFailure(error: unknown): Outcome {
  return error instanceof BoxRunError && error.code === 'IMAGE_PULL_FAILED' ? error : null;
}

function outcomeOrAborted(outcome: Promise<Outcome>, signal: AbortSignal | undefined): Promise<Outcome> {
  return new Promise((resolve) => {
    const stop = () => {
      resolve(null);
    };
    signal?.addEventListener('abort', stop, { once: true });
    void outcome.then((ended) => {
      signal?.removeEventListener('abort', stop);
      resolve(ended);
    });
  });
}
