// Allows a limited number of restarts in a sliding window of time. When they are used up, the owner must not restart
// the process now, because it fails again and again. Then some owners give up, and others wait until the window has
// passed.
import { limits } from '../limits.ts';

export interface RestartWindow {
  /** Takes one restart from the budget. Returns false if the budget is used up. `nowMs` is in milliseconds. */
  take(nowMs?: number): boolean;
}

/** Allows `restartsMax` restarts within limits.restartWindowMs. */
export function createRestartWindow(restartsMax: number): RestartWindow {
  let times: number[] = [];
  return {
    take(nowMs = performance.now()) {
      times = times.filter((time) => nowMs - time < limits.restartWindowMs);
      if (times.length >= restartsMax) return false;
      times.push(nowMs);
      return true;
    },
  };
}
