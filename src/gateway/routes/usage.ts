// The route for usage: the resources that boxes used in the last hour and use now, as server-sent events. The dashboard
// draws its charts from them.
import type { FastifyInstance } from 'fastify';
import type { UsageHistory } from '../../shared/api.ts';
import type { GatewayParts } from '../parts.ts';
import { answerWithEvents } from '../live/event-answer.ts';
import { encodeNotice, eventStreamType, inPieces } from '../live/sse.ts';

export function addUsageRoutes(app: FastifyInstance, { usage, ...parts }: GatewayParts): void {
  app.head('/v1/usage', async (_request, reply) => reply.type(eventStreamType).send());
  app.get('/v1/usage', { exposeHeadRoute: false }, async (request, reply) => {
    const name = 'a stream of usage';
    await answerWithEvents(parts, { request, reply, name, onError: 'come-again' }, async (stream) => {
      for await (const { kind, value } of usage.read(stream.ended)) {
        await (kind === 'history' ? stream.writePieces(encodeHistory(value)) : stream.write(encodeNotice(kind, value)));
        if (stream.ended.aborted) return;
      }
    });
  });
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
