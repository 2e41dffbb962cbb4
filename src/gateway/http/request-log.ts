// One line in the log for each request, when it is over. The request's id stands in the lines of every process that
// works for it: routes hand it on with what they ask for. Added by app.ts.
import type { FastifyInstance } from 'fastify';

/** No query, no header, no body. */
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
