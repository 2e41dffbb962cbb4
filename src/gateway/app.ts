// The HTTP application: content types, guards, errors, and the routes. It opens no port itself; see http/listeners.ts.
// Every path answers every method: a method that the path does not offer gets 405, with the offered ones in Allow.
import fastify, { type FastifyBaseLogger, type FastifyInstance, type HTTPMethods } from 'fastify';
import { BoxRunError } from '../shared/errors.ts';
import { newId } from '../shared/ids.ts';
import { answerError, answerNotFound } from './http/error-handler.ts';
import { boundBodies } from './http/held-bodies.ts';
import type { GatewayParts } from './parts.ts';
import { logRequests } from './http/request-log.ts';
import { checkAddress, surrogateProblem, utf8Text } from './http/well-formed.ts';
import { createHandlers, operations, type Handlers } from './routes/all-operations.ts';
import { addRoutes } from './routes/registration.ts';

const methods: readonly HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE'];

/** Replaces the schema compilers of fastify. It is never called as long as no route has a schema for fastify. */
const noCompiler = () => () => {
  throw new Error('a route has a schema for fastify, but this application has no schema compiler');
};

export async function createApp(
  parts: GatewayParts,
  handlers: Handlers = createHandlers(parts),
): Promise<FastifyInstance> {
  const log: FastifyBaseLogger = parts.log;
  const app: FastifyInstance = fastify({
    bodyLimit: parts.config.caps.bodyMb * 1024 * 1024,
    genReqId: () => newId('req'),
    logController: new fastify.LogController({ disableRequestLogging: true }),
    loggerInstance: log,
    // Routes check their input themselves. Without the schema compilers, a third of fastify is never loaded.
    schemaController: { compilersFactory: { buildValidator: noCompiler, buildSerializer: noCompiler } },
    // A child logger for each request would only add the request id. Each log line adds it itself, which costs less.
    childLoggerFactory: (logger) => logger,
    routerOptions: { maxParamLength: 1024, ignoreTrailingSlash: true },
    frameworkErrors: (error, request, reply) => void answerError(error, request, reply),
  });
  acceptJsonOnly(app);
  logRequests(app);
  boundBodies(app, { ...parts, bodyBytesMax: parts.config.caps.bodyMb * 1024 * 1024 });
  parts.meters.watch(app);
  parts.usage.watch(app);
  // Async on purpose: the parser then reads the whole packet first. Invalid bytes behind a request are answered with
  // 400 before a handler begins a stream. No other hook that runs for every request is async, because each one costs a
  // promise.
  app.addHook('onRequest', async (request) => {
    parts.guard(request.raw);
    checkAddress(request.raw.url ?? '/');
  });
  app.setErrorHandler((error, request, reply) => answerError(error, request, reply));
  app.setNotFoundHandler((request, reply) => answerNotFound(request, reply));

  const offered = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ method, url }) => {
    const known = offered.get(url) ?? new Set<string>();
    for (const name of [method].flat()) known.add(name);
    offered.set(url, known);
  });
  await addRoutes(app, operations, handlers);
  refuseOtherMethods(app, [...offered]);
  await app.ready();
  return app;
}

/** Accepts only JSON bodies. An empty body counts as no body, even with the content type of JSON. */
function acceptJsonOnly(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('remove', 'remove');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) {
      done(null, undefined);
      return;
    }
    try {
      const json = utf8Text(body as Buffer, 'the body');
      void parseJson(request, json, (error, value) => {
        done(error ?? surrogateProblem(json, value), value);
      });
    } catch (error) {
      done(error as Error);
    }
  });
}

/** Adds OPTIONS to each path, and answers 405 to all methods that the path does not offer. */
function refuseOtherMethods(app: FastifyInstance, offered: readonly (readonly [string, ReadonlySet<string>])[]): void {
  for (const [url, known] of offered) {
    const allow = [...known, 'OPTIONS'].join(', ');
    app.route({
      method: 'OPTIONS',
      url,
      handler: async (_request, reply) => reply.code(204).header('allow', allow).send(),
    });
    app.route({
      method: methods.filter((method) => !known.has(method)),
      url,
      // In onRequest the refusal comes before the body is read.
      onRequest: async (request, reply) => {
        void reply.header('allow', allow);
        throw new BoxRunError('METHOD_NOT_ALLOWED', `${request.method} is not possible here`, { hint: `use ${allow}` });
      },
      handler: async () => undefined,
    });
  }
}
