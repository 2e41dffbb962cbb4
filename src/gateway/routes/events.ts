// The route for state events: changes of boxes and commands as server-sent events. A client lists once, follows this
// stream, and does not have to poll. The id of an event is a position: a client that connects again continues after its
// last id, or gets `reset` and must list again.
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

/** The id after which the stream continues: the header Last-Event-ID, or else the query; null for the present. */
function sinceOf(request: FastifyRequest): string | null {
  const { since } = parseQuery(request.query);
  const header = request.headers['last-event-id'];
  if (typeof header === 'string' && header !== '') return header;
  return since === undefined || since === '' ? null : since;
}
