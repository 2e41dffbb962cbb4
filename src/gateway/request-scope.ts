// The id of the client's request that is being answered, for everything that is done on its behalf: it stands in the logs of each process.
// Opened by app.ts, read by the links of main.ts.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { FastifyInstance } from 'fastify';

const scope = new AsyncLocalStorage<string>();

export function currentRequestId(): string | undefined {
  return scope.getStore();
}

/** One line a request, when it is over: no query, no header, no body. */
export function logRequests(app: FastifyInstance): void {
  app.addHook('onRequest', (request, _reply, done) => {
    scope.run(request.id, done);
  });
  app.addHook('onResponse', (request, reply, done) => {
    const { id: requestId, method, routeOptions, params } = request;
    request.log.debug({ requestId, method, route: routeOptions.url, params, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, 'request answered');
    done();
  });
}
