// The operation for usage: the resources that boxes used in the last hour and use now, as server-sent events. The
// dashboard draws its charts from them.
import type { UsageHistory } from '../../shared/api.ts';
import type { GatewayParts } from '../parts.ts';
import { answerWithEvents } from '../live/event-answer.ts';
import { encodeNotice, inPieces } from '../live/sse.ts';
import { eventStream, type Operations } from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

export const usageOperations = {
  usage: {
    method: 'get',
    path: '/v1/usage',
    summary: 'What boxes reserve and use, in the last hour and from now on, as server-sent events',
    answers: { 200: eventStream('history with a UsageHistory, then a sample with a UsageUpdate every few seconds') },
    head: 'by-handler',
  },
} as const satisfies Operations;

export function createUsageHandlers({ usage, ...parts }: GatewayParts): HandlersOf<typeof usageOperations> {
  return {
    usage: async ({ request, reply }) => {
      const name = 'a stream of usage';
      return answerWithEvents(parts, { request, reply, name, onError: 'come-again' }, async (stream) => {
        for await (const { kind, value } of usage.read(stream.ended)) {
          if (kind === 'history') await stream.writePieces(encodeHistory(value));
          else await stream.write(encodeNotice(kind, value));
          if (stream.ended.aborted) return;
        }
      });
    },
  };
}

/** The event `history` in pieces, because it can be long and each client reads it at its own speed. */
function encodeHistory({ samples, boxes }: UsageHistory): Generator<Buffer, void, void> {
  function* texts(): Generator<string, void, void> {
    yield 'event: history\ndata: {"samples":[';
    for (const [index, sample] of samples.entries()) yield `${index === 0 ? '' : ','}${JSON.stringify(sample)}`;
    yield `],"boxes":${JSON.stringify(boxes)}}\n\n`;
  }
  return inPieces(texts());
}
