// A budget of restarts in a sliding window of time. When it is used up, the owner must give up instead of restarting a
// process that fails again and again. The keeper uses it for its children, the supervisor for the workers of a box, and
// the container driver for the agent.
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
