// WebSockets of the gateway: the handshake, pings, and sending at the speed of the client.
// The guard checks each handshake as it checks every other request. A refused client gets an error in the usual form.
import { ServerResponse, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { WebSocketServer, type RawData, type WebSocket } from 'ws';
import type { AttachOutput } from '../../shared/api.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { clientOf, createBudget, type Budget } from '../http/budget.ts';
import { refuse } from '../http/client-bounds.ts';
import type { Guard } from '../http/guards.ts';
import { checkAddress } from '../http/well-formed.ts';
import type { ClientSocket } from './client-socket.ts';
import { carryMessages, carryRaw } from './carried-connection.ts';
import type { StreamPlaces } from './stream-places.ts';

export type { ClientSocket, WebSocketMessage } from './client-socket.ts';

/**
 * What serves an upgrade. `serve` gets a client whose WebSocket is open. `open` makes a connection first, whose bytes
 * the client then gets, over a WebSocket or after an upgrade to `tcp`.
 */
export type UpgradeTarget =
  { readonly serve: (client: ClientSocket) => Promise<void> } | { readonly open: () => Promise<Duplex> };

/** Finds what serves the upgrade at a URL; null if nothing does. */
export type UpgradeRoute = (url: URL) => UpgradeTarget | null;

interface UpgradeOptions {
  readonly guard: Guard;
  readonly places: StreamPlaces;
  readonly route: UpgradeRoute;
  /** Answers requests for any other protocol, as if they had asked for none. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
  /** Aborts when the gateway stops. */
  readonly closing: AbortSignal;
  /** Milliseconds between two pings; limits.webSocketPingMs when absent. */
  readonly pingMs?: number;
}

type HandleUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

export function createUpgrade({
  guard,
  places,
  route,
  handle,
  closing,
  pingMs = limits.webSocketPingMs,
}: UpgradeOptions): HandleUpgrade {
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    autoPong: false,
    maxPayload: limits.webSocketMessageBytesMax,
  });
  const incoming = createBudget(limits.webSocketsIncomingBytesMax, 'messages of WebSockets');
  const bufferBytesMax = () =>
    Math.max(
      limits.webSocketBufferBytesLeast,
      Math.min(limits.webSocketBufferBytesMax, limits.webSocketsBufferBytesMax / server.clients.size),
    );
  closing.addEventListener('abort', () => {
    for (const socket of server.clients) socket.close(1001, 'the server is going');
  });
  const accept = (request: IncomingMessage, socket: Duplex, head: Buffer, serve: ServeClient) => {
    server.handleUpgrade(request, socket, head, (accepted) => {
      const count = countIncoming(socket, clientOf(request.socket), incoming);
      const client = createClientSocket(accepted, { pingMs, count, bufferBytesMax });
      serve(client).catch((error: unknown) => {
        client.fail(error);
      });
    });
  };
  const upgrade = async (request: IncomingMessage, socket: Duplex, head: Buffer, target: UpgradeTarget) => {
    if ('serve' in target) {
      accept(request, socket, head, target.serve);
      return;
    }
    const connection = await target.open();
    if (socket.destroyed) connection.destroy();
    else if (protocolOf(request) === 'tcp') carryRaw(socket, connection, { head, closing });
    else accept(request, socket, head, (client) => carryMessages(client, connection));
  };
  return (request, socket, head) => {
    socket.on('error', () => undefined); // 'close' follows.
    try {
      const protocol = protocolOf(request);
      const url = protocol === 'websocket' || protocol === 'tcp' ? urlOf(request) : null;
      const target = url === null ? null : route(url);
      if (protocol !== 'websocket' && (target === null || 'serve' in target)) {
        answerWithoutUpgrade(request, socket as Socket, handle);
        return;
      }
      guard(request, 'WebSocket');
      checkAddress(request.url ?? '/');
      if (target === null) throw new BoxRunError('NOT_FOUND', `there is no WebSocket at ${request.url ?? '/'}`);
      places.take(request.socket);
      upgrade(request, socket, head, target).catch((error: unknown) => {
        refuse(socket, toBoxRunError(error));
      });
    } catch (error) {
      refuse(socket, toBoxRunError(error));
    }
  };
}

type ServeClient = (client: ClientSocket) => Promise<void>;

function protocolOf({ headers }: IncomingMessage): string | undefined {
  return headers.upgrade?.toLowerCase();
}

/** Null for an address that is not valid. `checkAddress` says why. */
function urlOf({ url = '/' }: IncomingMessage): URL | null {
  return URL.canParse(url, 'http://localhost') ? new URL(url, 'http://localhost') : null;
}

interface IncomingCount {
  /** Called with the error each time the client exceeds the budget. */
  onTooMuch: (error: unknown) => void;
  /** Removes the bytes of a ping or pong, which are no part of a message. */
  subtract(bytes: number): void;
  /** Must be called when every received message is handled. */
  clear(): void;
}

/** Fewer bytes are not counted: one read of a connection can bring so many. */
const countedBytes = 64 * 1024;
/** The bytes of a ping frame besides its content: kind, length and mask. */
const pingFrameBytes = 6;

/** Counts received bytes that are not handled yet: incomplete messages, and messages that wait for their turn. */
function countIncoming(connection: Duplex, client: string, incoming: Budget): IncomingCount {
  let bytes = 0;
  let release = () => {};
  const clear = () => {
    bytes = 0;
    release();
  };
  const count: IncomingCount = {
    onTooMuch: () => undefined,
    subtract(pingBytes) {
      bytes = Math.max(0, bytes - pingBytes);
    },
    clear,
  };
  connection.on('data', (piece: Buffer) => {
    bytes += piece.length;
    if (bytes < countedBytes) return;
    release();
    try {
      release = incoming.take(client, bytes);
    } catch (error) {
      count.onTooMuch(error);
    }
  });
  connection.once('close', clear);
  return count;
}

interface ClientSocketOptions {
  readonly pingMs: number;
  readonly count: IncomingCount;
  /** The bytes that may wait for a slow client. The value depends on the number of open WebSockets. */
  readonly bufferBytesMax: () => number;
}

/** The time that a client has to read the error before its connection is ended. */
const errorReadMs = 1_000;

function createClientSocket(socket: WebSocket, { pingMs, count, bufferBytesMax }: ClientSocketOptions): ClientSocket {
  const gone = new AbortController();
  let isAlive = true;
  socket.pause();
  socket.on('error', () => undefined); // 'close' follows.
  socket.on('pong', (data) => {
    isAlive = true;
    count.subtract(data.length + pingFrameBytes);
  });
  // Without the check, a client that sends pings and reads nothing could fill the memory of the gateway with pongs.
  socket.on('ping', (data) => {
    count.subtract(data.length + pingFrameBytes);
    if (socket.bufferedAmount < bufferBytesMax()) socket.pong(data);
  });
  const pings = setInterval(() => {
    // While the socket is paused, the gateway does not see a pong. So a missing pong counts only if the socket was not
    // paused when the ping was sent, and is not paused now.
    if (!isAlive && !socket.isPaused) socket.terminate();
    isAlive = socket.isPaused;
    socket.ping();
  }, pingMs);
  socket.on('close', () => {
    clearInterval(pings);
    gone.abort();
  });
  const close = (code: number) => {
    socket.close(code);
    socket.resume(); // Otherwise the gateway would not read the close frame of the client.
  };
  const send = async (data: Uint8Array | string, binary: boolean) => {
    const written = new Promise<void>((resolve) => {
      socket.send(data, { binary }, () => {
        resolve();
      });
    });
    if (socket.bufferedAmount > bufferBytesMax()) await written;
  };
  let isEnding = false;
  // The rest of the message is not read, so the connection cannot be used any longer.
  count.onTooMuch = (error) => {
    isEnding = true;
    socket.pause();
    socket.send(errorMessage(error), () => {
      socket.terminate();
    });
    setTimeout(() => {
      socket.terminate();
    }, errorReadMs).unref();
  };
  return {
    gone: gone.signal,
    send: (data) => send(data, true),
    sendMessage: (word) => send(JSON.stringify(word), false),
    onMessage(take) {
      // A paused socket still gives the messages that it has read already. They wait for their turn.
      let waiting = 0;
      let turn: Promise<void> = Promise.resolve();
      socket.on('message', (raw: RawData, isBinary) => {
        waiting++;
        socket.pause();
        turn = turn
          .then(() => take({ data: raw as Buffer, isBinary }))
          .finally(() => {
            if (--waiting > 0) return;
            count.clear();
            if (!isEnding) socket.resume();
          });
      });
      socket.resume();
    },
    fail(error) {
      socket.send(errorMessage(error), () => undefined);
      close(1011);
    },
    close: () => {
      close(1000);
    },
  };
}

function errorMessage(error: unknown): string {
  const { code, message } = toBoxRunError(error);
  const output: AttachOutput = { type: 'error', code, message };
  return JSON.stringify(output);
}

/** Answers a request for any other protocol. It refuses a body: Node does not parse the body of an upgrade request. */
function answerWithoutUpgrade(request: IncomingMessage, socket: Socket, handle: UpgradeOptions['handle']): void {
  if (Number(request.headers['content-length'] ?? 0) > 0 || request.headers['transfer-encoding'] !== undefined) {
    refuse(
      socket,
      new BoxRunError('VALIDATION_ERROR', `there is no upgrade to ${request.headers.upgrade ?? ''} here`, {
        status: 400,
      }),
    );
    return;
  }
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.once('finish', () => {
    socket.destroySoon();
  });
  handle(request, response);
}
