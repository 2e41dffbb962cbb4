// Durations of the stages of one request. The process that does a stage measures it and sends the duration with its
// answer; the client gets them as the Server-Timing header. They are for people: no code depends on them.
import { Type, type Static } from 'typebox';

/** Milliseconds for each stage. */
export const StageTimes = Type.Record(Type.String(), Type.Number());
export type StageTimes = Static<typeof StageTimes>;

export interface Stopwatch {
  /** Runs `work` and adds its duration to `stage`, also if it throws. */
  time<T>(stage: string, work: () => Promise<T>): Promise<T>;
  readonly times: StageTimes;
}

export function createStopwatch(): Stopwatch {
  const times: StageTimes = {};
  return {
    times,
    async time(stage, work) {
      const startedAt = performance.now();
      try {
        return await work();
      } finally {
        times[stage] = (times[stage] ?? 0) + performance.now() - startedAt;
      }
    },
  };
}
