// Lets only one box at a time use an image that no box has used yet: the bring-up of one box (pull, unpack, start) ends
// before the next one begins. So the image is pulled, unpacked and converted once, and the other boxes find it ready.
// If the pull fails, it fails for all boxes that waited for it.

import { BoxRunError } from '../../shared/errors.ts';
import type { ImageSource } from '../../shared/images/source.ts';

/** The key for the gate. */
export function imageKey(driver: string, image: ImageSource | null): string {
  return `${driver} ${JSON.stringify(image)}`;
}

export interface ImageGate {
  /**
   * Runs `work`. Until one work has succeeded for this `key`, no two works run at the same time.
   * @param key the image and the driver: see imageKey
   * @param isWhole false: the work does only a part of a bring-up, such as a pull. Then its success does not open the
   *   gate, and the next works still run one after the other
   * @throws the errors of `work`; IMAGE_PULL_FAILED when the work of another box fails so during the wait; CANCELED
   *   when `signal` aborts during the wait
   */
  pass<T>(key: string, work: () => Promise<T>, signal?: AbortSignal, isWhole?: boolean): Promise<T>;
}

/**
 * How one box's work ended, for the boxes that wait. A failed pull: they all fail with it. Null: the next one may try.
 */
type Outcome = BoxRunError | null;

export function createImageGate(): ImageGate {
  const usable = new Set<string>();
  const running = new Map<string, Promise<Outcome>>();

  return {
    async pass(key, work, signal, isWhole = true) {
      for (let other = running.get(key); other !== undefined && !usable.has(key); other = running.get(key)) {
        const failedPull = await outcomeOrAborted(other, signal);
        if (signal?.aborted) throw new BoxRunError('CANCELED', 'canceled while another box prepared the same image');
        if (failedPull !== null) throw failedPull;
      }
      if (usable.has(key)) return work();
      const firstUse = work();
      running.set(
        key,
        firstUse.then(() => null, pullFailure),
      );
      try {
        const value = await firstUse;
        if (isWhole) usable.add(key);
        return value;
      } finally {
        running.delete(key);
      }
    },
  };
}

/** Only a failed pull concerns the other boxes. Every other error may come from the box, its worker or its client. */
function pullFailure(error: unknown): Outcome {
  return error instanceof BoxRunError && error.code === 'IMAGE_PULL_FAILED' ? error : null;
}

function outcomeOrAborted(outcome: Promise<Outcome>, signal: AbortSignal | undefined): Promise<Outcome> {
  return new Promise((resolve) => {
    const onAbort = () => {
      resolve(null);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    void outcome.then((ended) => {
      signal?.removeEventListener('abort', onAbort);
      resolve(ended);
    });
  });
}
