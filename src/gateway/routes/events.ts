// The route for state events: changes of boxes and commands as server-sent events. A client lists once, follows this
// stream, and does not have to poll. The id of an event is a position: a client that connects again continues after its
// last id, or gets `reset` and must list again.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { toBoxRunError } from '../../shared/errors.ts';
import type { GatewayParts } from '../parts.ts';
import { encodeMessages, eventStreamType, openSseStream } from '../live/sse.ts';
import { createParseQuery, StatesQuery } from '../http/validation.ts';

const parseQuery = createParseQuery(StatesQuery);

export function addEventRoutes(app: FastifyInstance, { states, ...parts }: GatewayParts): void {
  app.head('/v1/events', async (request, reply) => {
    parseQuery(request.query);
    return reply.type(eventStreamType).send();
  });
  app.get('/v1/events', { exposeHeadRoute: false }, async (request, reply) => {
    const since = sinceOf(request);
    const stream = openSseStream(reply, parts);
    try {
      for await (const messages of states.read(since, stream.ended)) {
        for (const piece of encodeMessages(messages)) await stream.write(piece);
        if (stream.ended.aborted) break;
      }
    } catch (error) {
      // The stream ends without an error event. A client connects again when its stream ends.
      const known = toBoxRunError(error);
      if (known.code !== 'CANCELED')
        request.log.warn({ err: known, requestId: request.id }, 'a stream of changes broke off');
    } finally {
      stream.end();
    }
  });
}

/** The id after which the stream continues: the header Last-Event-ID, or else the query; null for the present. */
function sinceOf(request: FastifyRequest): string | null {
  const { since } = parseQuery(request.query);
  const header = request.headers['last-event-id'];
  if (typeof header === 'string' && header !== '') return header;
  return since === undefined || since === '' ? null : since;
}
