// How long an exec's answer is held back so that a short command comes back finished: a little more than what short
// commands have taken on this engine. A running mean of those that ended within the longest hold; bounded on both
// sides.
import { limits } from '../../shared/limits.ts';

export interface HoldEstimate {
  holdMs(): number;
  /** Takes the duration of a finished command, in milliseconds from request to end. */
  observe(durationMs: number): void;
}

const weight = 0.2;
const headroom = 1.5;
const headroomMs = 10;

export function createHoldEstimate(firstGuessMs: number): HoldEstimate {
  let shortMs = firstGuessMs;
  return {
    holdMs: () => Math.min(limits.execHoldMostMs, Math.max(limits.execHoldLeastMs, shortMs * headroom + headroomMs)),
    observe(durationMs) {
      if (durationMs > limits.execHoldMostMs) return;
      // A command that waits for something is no measure of the engine: only somewhat longer ones move the mean.
      const counted = Math.min(durationMs, shortMs * 3 + headroomMs);
      shortMs += weight * (counted - shortMs);
    },
  };
}
