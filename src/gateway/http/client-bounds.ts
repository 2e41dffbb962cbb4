// Limits for one client at this gateway: its connections, and its open requests on all connections together. The
// gateway refuses anything beyond a limit and closes that connection. The byte budgets (budget.ts) do not count short
// bodies, so the number of requests needs a limit.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { BoxRunError } from '../../shared/errors.ts';
import { clientOf } from './budget.ts';
import { errorBody, errorHeaders } from './error-handler.ts';

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

export interface ClientBounds {
  /** Must be called with each new connection, before its first request. */
  readonly onConnection: (socket: Socket) => void;
  /** Wraps `handle`: the result calls `handle` for allowed requests and answers the others with an error. */
  readonly bounded: (handle: Handle) => Handle;
}

export interface ClientBoundsOptions {
  /** Connections of one client. */
  readonly connectionsMax: number;
  /** Open requests of one client on all its connections. */
  readonly requestsMax: number;
}

export function createClientBounds({ connectionsMax, requestsMax }: ClientBoundsOptions): ClientBounds {
  const connections = createCounts(connectionsMax);
  const requests = createCounts(requestsMax);
  const refused = new WeakSet<Socket>();
  return {
    onConnection(socket) {
      const release = connections.take(clientOf(socket));
      if (release !== null) socket.once('close', release);
      else refuse(socket, tooMany(`this client has ${connectionsMax} connections open already`));
    },
    bounded: (handle) => (request, response) => {
      const { socket } = request;
      const release = requests.take(clientOf(socket));
      if (release !== null) {
        response.once('close', release);
        handle(request, response);
      } else if (refused.has(socket)) {
        socket.destroy(); // The client was refused already, and it still sends requests on this connection.
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
    /** Counts one more for the client. Returns the function that releases it; null when the client is at the limit. */
    take(client: string): (() => void) | null {
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

/** Writes `error` as an HTTP answer to a connection that has no response object, and closes the connection. */
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
