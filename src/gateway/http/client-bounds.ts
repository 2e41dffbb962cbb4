// What one client may have open at this gateway: connections, and requests under way on all of them together. What is
// more is refused, and its connection closed, so that many small things take no more memory than a few large ones.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { BoxRunError } from '../../shared/errors.ts';
import { clientOf } from './budget.ts';
import { errorBody, errorHeaders } from './error-handler.ts';

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

export interface ClientBounds {
  /** For each connection, before any request of it. */
  readonly onConnection: (socket: Socket) => void;
  /** `handle` for the requests that may be. */
  readonly bounded: (handle: Handle) => Handle;
}

export interface ClientBoundsOptions {
  readonly connectionsMax: number;
  readonly requestsMax: number;
}

export function createClientBounds({ connectionsMax, requestsMax }: ClientBoundsOptions): ClientBounds {
  const connections = createCounts(connectionsMax);
  const requests = createCounts(requestsMax);
  const refused = new WeakSet<Socket>();
  return {
    onConnection(socket) {
      const leave = connections.enter(clientOf(socket));
      if (leave !== null) socket.once('close', leave);
      else refuse(socket, tooMany(`this client has ${connectionsMax} connections open already`));
    },
    bounded: (handle) => (request, response) => {
      const { socket } = request;
      const leave = requests.enter(clientOf(socket));
      if (leave !== null) {
        response.once('close', leave);
        handle(request, response);
      } else if (refused.has(socket)) {
        socket.destroy(); // It sends on without reading what it is told.
      } else {
        refused.add(socket);
        const error = tooMany(`this client has ${requestsMax} requests under way already`);
        response.writeHead(error.status, {
          'content-type': 'application/json; charset=utf-8',
          connection: 'close',
          ...errorHeaders(error),
        });
        response.end(JSON.stringify(errorBody(error)));
      }
    },
  };
}

function createCounts(countMax: number) {
  const counts = new Map<string, number>();
  return {
    /** Gives the function by which the client leaves again; null where it has as many as it may. */
    enter(client: string): (() => void) | null {
      const count = counts.get(client) ?? 0;
      if (count >= countMax) return null;
      counts.set(client, count + 1);
      return () => {
        const left = (counts.get(client) ?? 0) - 1;
        if (left > 0) counts.set(client, left);
        else counts.delete(client);
      };
    },
  };
}

function tooMany(message: string): BoxRunError {
  return new BoxRunError('TOO_MANY_REQUESTS', message, { hint: 'close some, or wait for the answers' });
}

/** What a connection that speaks HTTP is told before it is closed. */
export function refuse(socket: Duplex, error: BoxRunError): void {
  const body = JSON.stringify(errorBody(error));
  const head = [
    `HTTP/1.1 ${error.status} Refused`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
    ...Object.entries(errorHeaders(error)).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
