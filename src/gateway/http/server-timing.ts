// The Server-Timing header: how long the stages of a create, start or exec took, for people who look for lost time.
// Called by the routes that make or start something; nothing depends on the numbers. A stream's head is sent before its
// work is done, and what a trailer would say no script in a browser can read: there the times come as an event.
import type { FastifyReply } from 'fastify';
import type { StageTimes } from '../../shared/observe/stage-times.ts';
import { encodeNotice } from '../live/sse.ts';

/**
 * `answer` without the times that came with it; they go into the header, with `times` of the gateway before and the
 * total behind.
 */
export function withServerTiming<T extends { readonly timings?: StageTimes }>(
  reply: FastifyReply,
  times: StageTimes,
  { timings, ...answer }: T,
): Omit<T, 'timings'> {
  const stages = Object.entries(withTotal(reply, { ...times, ...timings }));
  void reply.header('server-timing', stages.map(([stage, ms]) => `${stage};dur=${ms.toFixed(1)}`).join(', '));
  return answer;
}

/** The same times for a stream's event `timing`: milliseconds by stage. */
export function timingNotice(reply: FastifyReply, times: StageTimes): Buffer {
  const stages = Object.entries(withTotal(reply, times)).map(([stage, ms]) => [stage, Number(ms.toFixed(1))] as const);
  return encodeNotice('timing', Object.fromEntries(stages));
}

function withTotal(reply: FastifyReply, times: StageTimes): StageTimes {
  return { ...times, total: reply.elapsedTime };
}
