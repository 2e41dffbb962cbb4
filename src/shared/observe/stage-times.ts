// How long the stages of a request took, measured where they happen and handed up beside the answer; clients see them
// as the Server-Timing header. Only for people who look for lost time: nothing depends on them.
import { Type, type Static } from 'typebox';

/** Milliseconds by stage. */
export const StageTimes = Type.Record(Type.String(), Type.Number());
export type StageTimes = Static<typeof StageTimes>;

export interface Stopwatch {
  /** The result of `work`; its time counts for `stage`, however it ends. */
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
