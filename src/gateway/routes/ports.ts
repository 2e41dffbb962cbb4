// The operations for the ports of a box: list the ports at which processes listen, and connect to one of them. The
// connection is made inside the box, so it needs no network and reaches nothing outside of the box.
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { BoxPort, ErrorBody, PortLink } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { portWaitMaxS } from '../../shared/request-bounds.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { boxErrors, json, type Operations } from '../openapi/operation.ts';
import type { GatewayParts } from '../parts.ts';
import { openPort, portOf } from '../ports/port-stream.ts';
import { portLink } from '../ports/port-link.ts';
import type { AskedAt } from '../ports/port-names.ts';
import { raiseNoBox } from '../reads/found-rows.ts';
import type { HandlersOf } from './handler.ts';

const portErrors = [...boxErrors, 'BOX_NOT_RUNNING', 'RUNTIME_ERROR', 'TIMEOUT', 'TOO_MANY_REQUESTS'] as const;
const portNumber = Type.Integer({ minimum: 1, maximum: 65_535 });

export const portOperations = {
  listPorts: {
    method: 'get',
    path: '/v1/boxes/{box}/ports',
    summary: 'The TCP ports at which processes of a box listen; with wait, when one port is among them',
    query: Type.Object({
      port: Type.Optional(portNumber),
      wait: Type.Optional(Type.Number({ minimum: 0, maximum: portWaitMaxS })),
    }),
    example: { query: { port: '8080', wait: '10' } },
    answers: { 200: json('The ports, by number', Type.Array(BoxPort)) },
    errors: portErrors,
  },
  connectPort: {
    method: 'get',
    path: '/v1/boxes/{box}/ports/{port}',
    summary: 'A TCP connection to a port, over a WebSocket or after an upgrade to tcp',
    query: Type.Object({ host: Type.Optional(Type.String({ maxLength: 45 })) }),
    example: { query: { host: '127.0.0.1' } },
    answers: {
      101: { description: 'The connection stands', content: {} },
      426: { description: 'The request asks for no upgrade', content: { 'application/json': ErrorBody } },
    },
    errors: [...portErrors, 'PORT_NOT_OPEN'],
    isWebSocket: true,
    isConnection: true,
  },
  linkPort: {
    method: 'post',
    path: '/v1/boxes/{box}/ports/{port}/link',
    summary: 'A one-time link to the URL of a port, for a browser',
    answers: { 200: json('The link', PortLink) },
    errors: [...boxErrors, 'RUNTIME_ERROR'],
  },
} as const satisfies Operations;

export function createPortHandlers(parts: GatewayParts): HandlersOf<typeof portOperations> {
  return {
    listPorts: async ({ request, reply, path, query }) => {
      const { port, wait } = query();
      if ((port === undefined) !== (wait === undefined)) {
        throw new BoxRunError('VALIDATION_ERROR', "'wait' and 'port' belong together", {
          hint: 'add ?port=8080&wait=10, or leave both out',
        });
      }
      const gone = new AbortController();
      reply.raw.once('close', () => {
        gone.abort();
      });
      const asked = wait === undefined || port === undefined ? {} : { port, waitMs: Math.round(wait * 1_000) };
      const signal = AbortSignal.any([gone.signal, parts.closing]);
      const params = { box: path.box, ...asked };
      const { id } = (await parts.rows.box(path.box)) ?? raiseNoBox(path.box);
      const work = parts.supervisor.request('boxPorts', params, { requestId: request.id, signal });
      const ports = await whileProcessing(reply, work);
      return ports.map((each) => ({ ...each, url: parts.portNames.url(id, each.port, askedAt(request)) }));
    },

    connectPort: async ({ path, query }) => {
      const { host = null } = query();
      return openPort(parts, { box: path.box, port: portOf(path.port), host });
    },

    linkPort: async ({ request, reply, path }) => {
      const port = portOf(path.port);
      const { id } = (await parts.rows.box(path.box)) ?? raiseNoBox(path.box);
      void reply.header('cache-control', 'no-store');
      return portLink(parts, id, port, askedAt(request));
    },
  };
}

/** The guard has checked the host. The other header only chooses the scheme of a link. */
function askedAt({ headers }: FastifyRequest): AskedAt {
  return { host: headers.host, isSecure: headers['x-forwarded-proto'] === 'https' };
}
