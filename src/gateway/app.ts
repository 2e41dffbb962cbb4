// The HTTP application: content types, guards, errors, and the routes. It listens nowhere itself; see listeners.ts.
// Each path answers to every method: what it does not offer is 405 with what it does.
import fastify, { type FastifyBaseLogger, type FastifyInstance, type HTTPMethods } from 'fastify';
import { BoxRunError } from '../shared/errors.ts';
import { newId } from '../shared/ids.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { answerError, answerNotFound } from './http/error-handler.ts';
import { boundBodies } from './http/held-bodies.ts';
import { createOpenApiDocument } from './openapi/document.ts';
import type { GatewayParts } from './parts.ts';
import { logRequests } from './http/request-log.ts';
import { checkAddress, surrogateProblem, utf8Text } from './http/well-formed.ts';
import { addAttachRoutes } from './routes/attach.ts';
import { addBoxRoutes } from './routes/boxes.ts';
import { addDocsRoutes } from './routes/docs.ts';
import { addEventRoutes } from './routes/events.ts';
import { addExecRoutes } from './routes/execs.ts';
import { addFileRoutes } from './routes/files.ts';
import { addHealthRoutes } from './routes/health.ts';
import { addOpenApiRoutes } from './routes/openapi.ts';
import { addRunRoutes } from './routes/run.ts';
import { addUiRoutes } from './routes/ui.ts';
import { addUsageRoutes } from './routes/usage.ts';

const methods: readonly HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE'];

/** No route has a schema of fastify's. */
const noCompiler = () => () => {
  throw new Error('a route has a schema for fastify, and nothing here compiles it');
};

export async function createApp(parts: GatewayParts): Promise<FastifyInstance> {
  const log: FastifyBaseLogger = parts.log;
  const app: FastifyInstance = fastify({
    bodyLimit: parts.config.caps.bodyMb * 1024 * 1024,
    genReqId: () => newId('req'),
    logController: new fastify.LogController({ disableRequestLogging: true }),
    loggerInstance: log,
    // Routes check their input themselves. So the compilers of schemas, a third of fastify, are never loaded.
    schemaController: { compilersFactory: { buildValidator: noCompiler, buildSerializer: noCompiler } },
    // One for each request costs more than what it would add: that is said where something is logged.
    childLoggerFactory: (logger) => logger,
    routerOptions: { maxParamLength: 1024, ignoreTrailingSlash: true },
    frameworkErrors: (error, request, reply) => void answerError(error, request, reply),
  });
  acceptJsonOnly(app);
  logRequests(app);
  boundBodies(app, { ...parts, bodyBytesMax: parts.config.caps.bodyMb * 1024 * 1024 });
  parts.meters.watch(app);
  parts.usage.watch(app);
  // The one hook of every request that is an async function, since each costs a promise: no answer begins before all
  // that came with the request is parsed, and garbage after it is answered with 400, not in the middle of a stream.
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
  await addRoutes(app, parts);
  refuseOtherMethods(app, [...offered]);
  await app.ready();
  return app;
}

/** Every path with what it offers; openapi-operations.ts describes each. */
export async function addRoutes(app: FastifyInstance, parts: GatewayParts): Promise<void> {
  addBoxRoutes(app, parts);
  addExecRoutes(app, parts);
  addEventRoutes(app, parts);
  addAttachRoutes(app);
  await addFileRoutes(app, parts);
  addRunRoutes(app, parts);
  addHealthRoutes(app, parts);
  addUsageRoutes(app, parts);
  addUiRoutes(app, parts);
  const document = createOpenApiDocument(packageJson.version);
  addOpenApiRoutes(app, document);
  addDocsRoutes(app, document);
}

/** Bodies are JSON; an empty one is no body, whatever its content type says. */
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
      // Before the body is looked at: it is of no interest here.
      onRequest: async (request, reply) => {
        void reply.header('allow', allow);
        throw new BoxRunError('METHOD_NOT_ALLOWED', `${request.method} is not possible here`, { hint: `use ${allow}` });
      },
      handler: async () => undefined,
    });
  }
}
