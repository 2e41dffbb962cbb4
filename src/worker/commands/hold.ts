// The time for which the worker delays the answer to an exec request. So a short command is already finished in the
// answer. The time is a little more than the mean duration of short commands on this engine. It is always between
// limits.execHoldLeastMs and limits.execHoldMostMs.
import { limits } from '../../shared/limits.ts';

export interface HoldEstimate {
  /** How long to delay the next answer, in milliseconds. */
  holdMs(): number;
  /** Adds the duration of a finished command: the milliseconds from its request to its end. */
  observe(durationMs: number): void;
}

/** The weight of the newest duration in the running mean. */
const weight = 0.2;
const headroomFactor = 1.5;
const headroomMs = 10;

/** @param firstGuessMs the mean to begin with, in milliseconds */
export function createHoldEstimate(firstGuessMs: number): HoldEstimate {
  let shortMs = firstGuessMs;
  return {
    holdMs: () =>
      Math.min(limits.execHoldMostMs, Math.max(limits.execHoldLeastMs, shortMs * headroomFactor + headroomMs)),
    observe(durationMs) {
      if (durationMs > limits.execHoldMostMs) return;
      // A command that waits for something says nothing about the engine. So one duration counts as at most about three
      // times the mean.
      const counted = Math.min(durationMs, shortMs * 3 + headroomMs);
      shortMs += weight * (counted - shortMs);
    },
  };
}
