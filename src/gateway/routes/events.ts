// The stream of changes of boxes and execs, as server-sent events: whoever lists and then follows it needs to poll
// nothing. Its ids are positions: a client that comes again goes on behind the last one that it has, or is told to list
// anew.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { GatewayParts } from '../parts.ts';
import { answerWithEvents, sendBatches } from '../live/event-answer.ts';
import { encodeMessages, eventStreamType } from '../live/sse.ts';
import { createParseQuery, StatesQuery } from '../http/validation.ts';

const parseQuery = createParseQuery(StatesQuery);

export function addEventRoutes(app: FastifyInstance, { states, ...parts }: GatewayParts): void {
  app.head('/v1/events', async (request, reply) => {
    parseQuery(request.query);
    return reply.type(eventStreamType).send();
  });
  app.get('/v1/events', { exposeHeadRoute: false }, async (request, reply) => {
    const since = sinceOf(request);
    const name = 'a stream of state events';
    await answerWithEvents(parts, { request, reply, name, onError: 'come-again' }, (stream) =>
      sendBatches(stream, states.read(since, stream.ended), encodeMessages),
    );
  });
}

/** The id behind which to go on: of a reconnecting EventSource, or of the client's own choice; null for from now on. */
function sinceOf(request: FastifyRequest): string | null {
  const { since } = parseQuery(request.query);
  const header = request.headers['last-event-id'];
  if (typeof header === 'string' && header !== '') return header;
  return since === undefined || since === '' ? null : since;
}
