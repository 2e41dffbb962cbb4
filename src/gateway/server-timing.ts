// The Server-Timing header: how long the stages of a create, start or exec took, for people who look for lost time.
// Called by the routes that make or start something; nothing depends on the numbers.
import type { FastifyReply } from 'fastify';
import type { StageTimes } from '../shared/stage-times.ts';

/** `answer` without the times that came with it; they go into the header, with `times` of the gateway before and the total behind. */
export function withServerTiming<T extends { readonly timings?: StageTimes }>(
  reply: FastifyReply,
  times: StageTimes,
  { timings, ...answer }: T,
): Omit<T, 'timings'> {
  const stages = Object.entries({ ...times, ...timings, total: reply.elapsedTime });
  void reply.header('server-timing', stages.map(([stage, ms]) => `${stage};dur=${ms.toFixed(1)}`).join(', '));
  return answer;
}
