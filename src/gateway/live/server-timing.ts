// The Server-Timing header. It says how long the stages of a create, a start or an exec took, for people who look for
// the cause of a delay. Nothing depends on the numbers. A stream sends the times as an event instead: its headers are
// sent before the work is done, and scripts in a browser cannot read trailers.
import type { FastifyReply } from 'fastify';
import type { StageTimes } from '../../shared/observe/stage-times.ts';
import { encodeNotice } from './sse.ts';

/**
 * Sets the header, and gives the answer without its `timings`.
 * @param times stages that the gateway measured, in milliseconds; they come first in the header, the total comes last
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

/** The event `timing` of a stream, with the milliseconds of each stage. */
export function timingNotice(reply: FastifyReply, times: StageTimes): Buffer {
  const stages = Object.entries(withTotal(reply, times)).map(([stage, ms]) => [stage, Number(ms.toFixed(1))] as const);
  return encodeNotice('timing', Object.fromEntries(stages));
}

function withTotal(reply: FastifyReply, times: StageTimes): StageTimes {
  return { ...times, total: reply.elapsedTime };
}
