// Writes one log line for each finished request. The line has the id of the request. Routes pass the same id to the
// other processes, so their log lines can be matched with this one.
import type { FastifyInstance } from 'fastify';

/** Logs no query, header or body. A query can contain a login code, and a header can contain the token. */
export function logRequests(app: FastifyInstance): void {
  app.addHook('onResponse', (request, reply, done) => {
    const { id: requestId, method, routeOptions, params } = request;
    request.log.debug(
      {
        requestId,
        method,
        route: routeOptions.url,
        params,
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
      },
      'request answered',
    );
    done();
  });
}
