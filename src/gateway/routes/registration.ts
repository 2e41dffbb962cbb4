// Makes the routes of fastify, and those of WebSockets, from operations and their handlers. It alone knows how a path
// of the description becomes a path of the router. Several actions of one resource, such as `:start` and `:stop`, are
// one route of the router: the handler is chosen after the path is decoded, so that `%3Astop` means the same.
import type { Duplex } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { BoxRunError } from '../../shared/errors.ts';
import { createBodyParse } from '../http/body.ts';
import { keyOf, parseTarget, unknownAction } from '../http/target.ts';
import { createParseQuery } from '../http/validation.ts';
import { pathParameters, type Operation, type Operations } from '../openapi/operation.ts';
import type { UpgradeRoute } from '../live/web-socket.ts';
import type { Call, HandlersOf, Parameters, SocketCall } from './handler.ts';

type Params = Readonly<Record<string, string>>;
type Answer = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/** One route of the router. Its operations differ only in the action at the end of their paths. */
interface Route {
  readonly operation: Operation;
  readonly url: string;
  readonly answers: Map<string | null, Answer>;
}

/** Adds the routes of all `operations`. */
export async function addRoutes<All extends Operations>(
  app: FastifyInstance,
  operations: All,
  handlers: HandlersOf<All>,
): Promise<void> {
  const routes = new Map<string, Route>();
  for (const [id, operation] of Object.entries(operations)) {
    const { resource, action } = splitPath(operation.path);
    const url = resource.replaceAll(/\{(\w+)\}/g, ':$1');
    const key = `${operation.method} ${url}`;
    const route = routes.get(key) ?? { operation, url, answers: new Map() };
    if (route.answers.has(action)) throw new Error(`${id} has the method and path of another operation`);
    route.answers.set(action, createAnswer(operation, handlers[id]));
    routes.set(key, route);
  }
  for (const route of routes.values()) await addRoute(app, route);
}

/** Divides `/v1/boxes/{box}:stop` into `/v1/boxes/{box}` and `stop`. The action is null if the path has none. */
function splitPath(path: string): { resource: string; action: string | null } {
  const [, resource = path, action = null] = /^(.*):(\w+)$/.exec(path) ?? [];
  return { resource, action };
}

function createAnswer(operation: Operation, handler: unknown): Answer {
  if (operation.isWebSocket === true) return refuseWithoutUpgrade;
  const { body, query } = operation;
  const parseQuery = query === undefined ? () => ({}) : createParseQuery(query);
  const parseBody =
    body === undefined || body.contentType !== undefined
      ? () => ({})
      : createBodyParse(body.schema, body.required ? 'required' : 'optional');
  const handle = handler as (call: Call<Operation>) => Promise<unknown>;
  return (request, reply) =>
    handle({
      request,
      reply,
      path: withoutActions(request.params as Params),
      query: () => parseQuery(request.query) as never,
      body: () => parseBody(request, reply),
    });
}

const refuseWithoutUpgrade: Answer = async (_request, reply) => {
  void reply.header('upgrade', 'websocket').header('connection', 'upgrade');
  throw new BoxRunError('VALIDATION_ERROR', 'this is a WebSocket', {
    status: 426,
    hint: 'connect with a WebSocket client',
  });
};

/** Takes actions away from ids and names. The handler is chosen already, or the path ignores the action. */
function withoutActions(params: Params): Params {
  return Object.fromEntries(
    Object.entries(params).map(([name, value]) => [name, pathParameters[name]?.isKey === true ? keyOf(value) : value]),
  );
}

async function addRoute(app: FastifyInstance, { operation, url, answers }: Route): Promise<void> {
  const { method, body, head, isWebSocket } = operation;
  const name = method.toUpperCase();
  const options = {
    method: head === 'by-handler' ? ['HEAD', name] : name,
    url,
    exposeHeadRoute: method === 'get' && head === undefined && isWebSocket !== true,
    handler: chooseByAction(url, answers),
  };
  const contentType = body?.contentType;
  if (contentType === undefined) {
    app.route(options);
    return;
  }
  // A separate fastify scope, so that only this route accepts this content type.
  await app.register(async (scope) => {
    scope.addContentTypeParser(contentType, (_request, _body, done) => {
      done(null);
    });
    if (contentType === 'application/octet-stream') {
      scope.removeContentTypeParser(['application/json', 'text/plain']);
      scope.addContentTypeParser('*', (_request, _body, done) => {
        done(
          new BoxRunError('UNSUPPORTED_MEDIA_TYPE', 'the body must be bytes', {
            hint: `send Content-Type: ${contentType}`,
          }),
        );
      });
    }
    scope.route(options);
  });
}

function chooseByAction(url: string, answers: Route['answers']): Answer {
  const withoutAction = answers.get(null);
  if (withoutAction !== undefined && answers.size === 1) return withoutAction;
  const last = url.slice(url.lastIndexOf(':') + 1);
  const known = [...answers.keys()].filter((action) => action !== null);
  return async (request, reply) => {
    const { action } = parseTarget((request.params as Params)[last] ?? '');
    const answer = answers.get(action);
    if (answer === undefined) throw unknownAction(action, known);
    return answer(request, reply);
  };
}

/** Makes a function that finds the handler of the upgrade at a URL; it gives null if there is none. */
export function createUpgradeRoute<All extends Operations>(operations: All, handlers: HandlersOf<All>): UpgradeRoute {
  const sockets = Object.entries(operations).flatMap(([id, { isWebSocket, isConnection, path, query }]) => {
    if (isWebSocket !== true) return [];
    const pattern = new RegExp(`^${path.replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)')}/?$`);
    const parseQuery = query === undefined ? () => ({}) : createParseQuery(query);
    return { pattern, parseQuery, isConnection, handler: handlers[id] as unknown };
  });
  return (url) => {
    for (const { pattern, parseQuery, isConnection, handler } of sockets) {
      const found = pattern.exec(url.pathname);
      if (found === null) continue;
      const path = withoutActions(decoded(found.groups ?? {}));
      const query = () => parseQuery(Object.fromEntries(url.searchParams)) as never;
      if (isConnection === true) {
        const open = handler as (call: Parameters<Operation>) => Promise<Duplex>;
        return { open: () => open({ path, query }) };
      }
      const serve = handler as (call: SocketCall<Operation>) => Promise<void>;
      return { serve: (client) => serve({ client, path, url, query }) };
    }
    return null;
  };
}

function decoded(params: Params): Params {
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [name, decodeURIComponent(value)]));
}
