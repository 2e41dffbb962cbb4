// WebSockets on the gateway's listeners: the handshake with the same guards as every request, pings, and sending with
// back-pressure. listeners.ts hands upgrades over; routes/attach.ts says what each path is for. Who is refused gets an
// answer in our form.
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
import type { StreamPlaces } from './stream-places.ts';

export interface WebSocketMessage {
  readonly data: Buffer;
  readonly isBinary: boolean;
}

/** One connection to a client; takes messages one at a time, so that a slow receiver slows the client. */
export interface ClientSocket {
  /** Resolves when there is room for more. */
  send(data: Uint8Array): Promise<void>;
  /** As `send`: output may come as words too. */
  sendWord(word: AttachOutput): Promise<void>;
  /** From now on, each message is given to `take`; the next one comes when it has resolved. */
  onMessage(take: (message: WebSocketMessage) => Promise<void>): void;
  /** Says what went wrong, and closes. */
  fail(error: unknown): void;
  close(): void;
  /** Aborts when the client has left. */
  readonly gone: AbortSignal;
}

interface UpgradeOptions {
  readonly guard: Guard;
  readonly places: StreamPlaces;
  /** What serves the path; null where no WebSocket is. */
  readonly route: (url: URL) => ((client: ClientSocket) => Promise<void>) | null;
  /** For requests that want another protocol: they are answered as if they did not. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
  readonly closing: AbortSignal;
  /** limits.webSocketPingMs when absent. */
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
  return (request, socket, head) => {
    socket.on('error', () => undefined); // 'close' follows.
    if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
      answerPlainly(request, socket as Socket, handle);
      return;
    }
    try {
      guard(request, 'WebSocket');
      checkAddress(request.url ?? '/');
      const serve = route(new URL(request.url ?? '/', 'http://localhost'));
      if (serve === null) throw new BoxRunError('NOT_FOUND', `there is no WebSocket at ${request.url ?? '/'}`);
      places.take(request.socket);
      server.handleUpgrade(request, socket, head, (accepted) => {
        const count = countIncoming(socket, clientOf(request.socket), incoming);
        const client = createClientSocket(accepted, { pingMs, count, bufferBytesMax });
        serve(client).catch((error: unknown) => {
          client.fail(error);
        });
      });
    } catch (error) {
      refuse(socket, toBoxRunError(error));
    }
  };
}

interface IncomingCount {
  /** Called with each piece that is too much. */
  onTooMuch: (error: unknown) => void;
  /** So many bytes were no part of a message. */
  subtract(bytes: number): void;
  /** Every message that has come was taken. */
  clear(): void;
}

/** Less than this is not counted: what one read of a connection brings. */
const countedBytes = 64 * 1024;
/** Around the content of a ping: kind, length and mask. */
const pingFrameBytes = 6;

/** Counts what a connection has brought and nobody has taken: messages that are not whole, or wait for their turn. */
function countIncoming(connection: Duplex, client: string, incoming: Budget): IncomingCount {
  let bytes = 0;
  let release = () => {};
  const clear = () => {
    bytes = 0;
    release();
  };
  const count: IncomingCount = {
    onTooMuch: () => undefined,
    subtract(ofPing) {
      bytes = Math.max(0, bytes - ofPing);
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
  /** What may wait for a client that reads slowly, by now. */
  readonly bufferBytesMax: () => number;
}

/** How long a client has to read why it is cut. */
const farewellMs = 1_000;

function createClientSocket(socket: WebSocket, { pingMs, count, bufferBytesMax }: ClientSocketOptions): ClientSocket {
  const gone = new AbortController();
  let isAlive = true;
  socket.pause();
  socket.on('error', () => undefined); // 'close' follows.
  socket.on('pong', (data) => {
    isAlive = true;
    count.subtract(data.length + pingFrameBytes);
  });
  // A client that sends pings and does not read would have us keep the answers.
  socket.on('ping', (data) => {
    count.subtract(data.length + pingFrameBytes);
    if (socket.bufferedAmount < bufferBytesMax()) socket.pong(data);
  });
  const pings = setInterval(() => {
    if (!isAlive) socket.terminate();
    // The answer of a client that we do not read waits unread: only a whole period of reading counts against it.
    isAlive = socket.isPaused;
    socket.ping();
  }, pingMs);
  socket.on('close', () => {
    clearInterval(pings);
    gone.abort();
  });
  const close = (code: number) => {
    socket.close(code);
    socket.resume(); // Its answer to that is waited for.
  };
  const send = async (data: Uint8Array | string, binary: boolean) => {
    const written = new Promise<void>((resolve) => {
      socket.send(data, { binary }, () => {
        resolve();
      });
    });
    if (socket.bufferedAmount > bufferBytesMax()) await written;
  };
  let isCut = false;
  // Its message is not read to the end: the connection has no other use.
  count.onTooMuch = (error) => {
    isCut = true;
    socket.pause();
    socket.send(wordOf(error), () => {
      socket.terminate();
    });
    setTimeout(() => {
      socket.terminate();
    }, farewellMs).unref();
  };
  return {
    gone: gone.signal,
    send: (data) => send(data, true),
    sendWord: (word) => send(JSON.stringify(word), false),
    onMessage(take) {
      // What has been read already still comes while it is paused: it waits for its turn.
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
            if (!isCut) socket.resume();
          });
      });
      socket.resume();
    },
    fail(error) {
      socket.send(wordOf(error), () => undefined);
      close(1011);
    },
    close: () => {
      close(1000);
    },
  };
}

function wordOf(error: unknown): string {
  const { code, message } = toBoxRunError(error);
  const word: AttachOutput = { type: 'error', code, message };
  return JSON.stringify(word);
}

function answerPlainly(request: IncomingMessage, socket: Socket, handle: UpgradeOptions['handle']): void {
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
