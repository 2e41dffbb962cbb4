// The server's side of a contract: accepts connections on a Unix socket, checks every message and calls the handlers.
// `receive` and `greet` throw when a client breaks the contract; connection.ts then closes its connection. If a handler
// throws, its client gets an error of the catalogue.
import { createServer, type Server, type Socket } from 'node:net';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';
import type { Logger } from '../observe/log.ts';
import { createConnection, type Connection } from './connection.ts';
import {
  fits,
  type ClientHello,
  type Contract,
  type MethodOf,
  type NoticeName,
  type NoticeOf,
  type ParamsOf,
  type ResultOf,
  type ServerHello,
} from './contract.ts';
import { listenAt } from './socket.ts';
import { encodeError, type WireMessage } from './wire.ts';

export interface ClientPeer<C extends Contract> {
  readonly hello: ClientHello<C>;
  readonly closed: Promise<string>;
  notify<N extends NoticeName<C>>(name: N, payload: NoticeOf<C, N>): void;
  bufferedBytes(): number;
  close(reason: string): void;
}

export interface RequestContext<C extends Contract> {
  readonly peer: ClientPeer<C>;
  /** Aborts when the client cancels the request, its deadline passes, or its connection ends. */
  readonly signal: AbortSignal;
  readonly progress: (stage: string, message: string) => void;
  /** The id of the HTTP request that caused this one, or null. */
  readonly requestId: string | null;
}

export type Handlers<C extends Contract> = {
  readonly [M in MethodOf<C>]: (
    params: ParamsOf<C, M>,
    context: RequestContext<C>,
  ) => Promise<ResultOf<C, M>> | ResultOf<C, M>;
};

export interface IpcServer<C extends Contract> {
  readonly peers: ReadonlySet<ClientPeer<C>>;
  /** Accepts no more connections, and closes those that are open. */
  close(): Promise<void>;
}

export interface ServeOptions<C extends Contract> {
  readonly path: string;
  readonly contract: C;
  /** Gives what this server says about itself. It is called for each client. */
  readonly hello: () => ServerHello<C>;
  readonly handlers: Handlers<C>;
  readonly log: Logger;
  /** Called with the duration of each request in seconds, also of one that failed. */
  readonly observe?: (method: string, seconds: number) => void;
  readonly onConnect?: (peer: ClientPeer<C>) => void;
  readonly onDisconnect?: (peer: ClientPeer<C>) => void;
}

/** Serves a contract at a Unix socket until it is closed. @throws RUNTIME_ERROR as `listenAt` */
export async function serveContract<C extends Contract>(options: ServeOptions<C>): Promise<IpcServer<C>> {
  const peers = new Set<ClientPeer<C>>();
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    acceptClient(socket, options, peers);
  });
  await listenAt(server, options.path);
  return {
    peers,
    async close() {
      const ended = new Promise((resolve) => server.close(resolve));
      for (const peer of peers) peer.close('the server has closed');
      for (const socket of sockets) socket.destroy(); // Connections that have not said hello are not in `peers`.
      await ended;
    },
  };
}

function acceptClient<C extends Contract>(socket: Socket, options: ServeOptions<C>, peers: Set<ClientPeer<C>>): void {
  const running = new Map<number, AbortController>();
  let peer: ClientPeer<C> | null = null;
  const connection = createConnection(socket, (message) => {
    if (peer !== null) {
      receive(message, { connection, options, running, peer });
      return;
    }
    clearTimeout(helloTimer);
    peer = greet(message, connection, options);
    peers.add(peer);
    options.onConnect?.(peer);
  });
  const helloTimer = setTimeout(() => {
    connection.close('no hello');
  }, limits.helloTimeoutMs);
  void connection.closed.then((reason) => {
    clearTimeout(helloTimer);
    for (const controller of running.values()) controller.abort();
    if (peer === null) {
      options.log.warn({ contract: options.contract.name, reason }, 'a connection ended before its hello');
      return;
    }
    peers.delete(peer);
    options.onDisconnect?.(peer);
  });
}

function greet<C extends Contract>(
  message: WireMessage,
  connection: Connection,
  options: ServeOptions<C>,
): ClientPeer<C> {
  const { contract } = options;
  if (message[0] !== 'hello') throw new Error('the first message was no hello');
  const [, name, version, identity] = message;
  // The newer side understands the version before too, whether it is the client or the server.
  if (name !== contract.name || Math.abs(version - contract.version) > 1) {
    throw new Error(`spoke ${name} ${version} to ${contract.name} ${contract.version}`);
  }
  if (!fits(contract.clientHello, identity)) throw new Error('its hello does not fit the contract');
  connection.send(['hello', contract.name, contract.version, options.hello()]);
  return {
    hello: identity as ClientHello<C>,
    closed: connection.closed,
    notify(noticeName, payload) {
      connection.send(['notice', noticeName, payload]);
    },
    bufferedBytes: connection.bufferedBytes,
    close: connection.close,
  };
}

interface Receiver<C extends Contract> {
  readonly connection: Connection;
  readonly options: ServeOptions<C>;
  readonly running: Map<number, AbortController>;
  readonly peer: ClientPeer<C>;
}

function receive<C extends Contract>(message: WireMessage, receiver: Receiver<C>): void {
  if (message[0] === 'cancel') {
    receiver.running.get(message[1])?.abort(new BoxRunError('CANCELED', 'the caller canceled it'));
    return;
  }
  if (message[0] === 'ping') {
    receiver.connection.send(['pong']);
    return;
  }
  if (message[0] !== 'request') throw new Error(`a ${message[0]} is not for a server`);
  const [, id, method, timeoutMs, params, requestId] = message;
  const schemas = Object.hasOwn(receiver.options.contract.requests, method)
    ? receiver.options.contract.requests[method]
    : undefined;
  if (schemas === undefined) throw new Error(`there is no request ${method}`);
  if (!fits(schemas.params, params)) throw new Error(`the parameters of ${method} do not fit the contract`);
  if (receiver.running.size >= limits.requestsPendingMax) {
    const refusal = new BoxRunError('TOO_MANY_REQUESTS', 'too many requests are waiting');
    receiver.connection.send(['error', id, encodeError(refusal)]);
    return;
  }
  void answer(receiver, { id, method, timeoutMs, params, requestId: typeof requestId === 'string' ? requestId : null });
}

async function answer<C extends Contract>(
  { connection, options, running, peer }: Receiver<C>,
  request: { id: number; method: string; timeoutMs: number; params: unknown; requestId: string | null },
): Promise<void> {
  const { id, method } = request;
  const controller = new AbortController();
  const startedAt = performance.now();
  running.set(id, controller);
  const timer = setTimeout(() => {
    controller.abort(new BoxRunError('TIMEOUT', `${method} took longer than ${request.timeoutMs} ms`));
  }, request.timeoutMs);
  const context: RequestContext<C> = {
    peer,
    signal: controller.signal,
    requestId: request.requestId,
    progress(stage, text) {
      connection.send(['progress', id, stage, text]);
    },
  };
  try {
    const handler = options.handlers[method as MethodOf<C>];
    const value = await handler(request.params as ParamsOf<C, MethodOf<C>>, context);
    connection.send(['result', id, value]);
  } catch (error) {
    if (!(error instanceof BoxRunError)) options.log.error({ err: error, method }, 'a request failed unexpectedly');
    connection.send(['error', id, encodeError(error)]);
  } finally {
    clearTimeout(timer);
    options.observe?.(method, (performance.now() - startedAt) / 1000);
    running.delete(id);
  }
}
