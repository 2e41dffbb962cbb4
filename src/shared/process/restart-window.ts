// A budget of restarts in a sliding window: past it, whoever restarts gives up and says so, instead of going round for
// ever. Used by the keeper for its children and by the supervisor for the workers of a box.
import { limits } from '../limits.ts';

export interface RestartWindow {
  /** Takes one restart; false when the budget of the window is used up. */
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
