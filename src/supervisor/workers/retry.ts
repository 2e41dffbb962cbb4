// Repeats work while its outcome is unknown, because the writer is away or does not answer in time. The pauses grow.
// For work that must reach the writer in the end, and whose caller can wait for as long as this takes.
import { sleep } from '../../shared/waiting/clock.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/** True for an error that does not say whether the work was done, or will still be done. */
export function isOutcomeUnknown(error: unknown): boolean {
  return error instanceof BoxRunError && (error.code === 'UNAVAILABLE' || error.code === 'TIMEOUT');
}

/** @throws the error of `work` when it is final: when `isOutcomeUnknown` is false for it */
export async function retryUntilDone<T>(work: () => Promise<T>): Promise<T> {
  let pauseMs: number = limits.reconnectFirstMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isOutcomeUnknown(error)) throw error;
    }
    await sleep(pauseMs);
    pauseMs = Math.min(pauseMs * 2, limits.reconnectLongestMs);
  }
}
