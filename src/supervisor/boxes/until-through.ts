// Work that must reach the writer sooner or later: done again, with growing pauses, while the writer is away or does
// not answer. Used where nobody waits for the outcome, or everybody may wait as long as it takes.
import { sleep } from '../../shared/waiting/clock.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/** True for a failure that says nothing about whether the work was, or will be, done. */
export function leavesOpen(error: unknown): boolean {
  return error instanceof BoxRunError && (error.code === 'UNAVAILABLE' || error.code === 'TIMEOUT');
}

/** @throws what `work` throws and cannot pass by itself */
export async function untilThrough<T>(work: () => Promise<T>): Promise<T> {
  let pauseMs: number = limits.reconnectFirstMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!leavesOpen(error)) throw error;
    }
    await sleep(pauseMs);
    pauseMs = Math.min(pauseMs * 2, limits.reconnectLongestMs);
  }
}
