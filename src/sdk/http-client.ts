// Sends requests to one server with Node's own HTTP client, over TCP or a Unix socket. It keeps connections open for
// later requests. It loads TLS only for an https server.
import { once } from 'node:events';
import {
  Agent,
  request as requestHttp,
  type ClientRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { PlatformBody, PlatformRequest, PlatformResponse } from './platform.ts';

export interface HttpClientOptions {
  /** URL of the server, without a slash at its end. */
  readonly base: string;
  /** Unix socket of the server; over TCP when absent. */
  readonly socketPath?: string | undefined;
  /** A connection counts as lost if nothing passes on it for this time, in milliseconds. */
  readonly silenceTimeoutMs: number;
}

export interface HttpClient {
  /** @throws the error of the connection, with the `code` from Node */
  fetch(url: string, request: PlatformRequest): Promise<PlatformResponse>;
  /** Ends every open request and closes all connections. */
  close(): void;
}

/** A server counts as unreachable if it does not accept the connection within this time, in milliseconds. */
const connectTimeoutMs = 10_000;

export function createHttpClient({ base, socketPath, silenceTimeoutMs }: HttpClientOptions): HttpClient {
  const secure = base.startsWith('https:') ? import('node:https') : null;
  const agents: Agent[] = [];
  const plainAgent = new Agent({ keepAlive: true });
  agents.push(plainAgent);
  let secureAgent: Agent | null = null;

  async function start(url: string, { method, headers, signal, body }: PlatformRequest): Promise<ClientRequest> {
    const options: RequestOptions = {
      method,
      headers: { ...headers, ...(typeof body === 'string' ? { 'content-length': Buffer.byteLength(body) } : {}) },
      timeout: silenceTimeoutMs,
      ...(socketPath === undefined ? {} : { socketPath }),
      ...(signal === undefined ? {} : { signal }),
    };
    // An empty name for TLS saves 5 ms at the first request: Node then does not check whether the host is an IP
    // address.
    if (secure === null) return requestHttp(url, { ...options, agent: plainAgent, servername: '' } as RequestOptions);
    const https = await secure;
    if (secureAgent === null) agents.push((secureAgent = new https.Agent({ keepAlive: true })));
    return https.request(url, { ...options, agent: secureAgent });
  }

  return {
    async fetch(url, request) {
      const sent = await start(url, request);
      try {
        return await answerOf(sent, request, silenceTimeoutMs);
      } catch (error) {
        // The server closed the kept connection at the same moment, so it has not read the request. A GET changes
        // nothing, so it is safe to send it again.
        const isStale = sent.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
        if (!isStale || request.method !== 'GET') throw error;
        return await answerOf(await start(url, request), request, silenceTimeoutMs);
      }
    },
    close() {
      for (const agent of agents) agent.destroy();
    },
  };
}

/** Sends the body and resolves when the head of the answer has come. */
async function answerOf(
  sent: ClientRequest,
  { body }: PlatformRequest,
  silenceTimeoutMs: number,
): Promise<PlatformResponse> {
  boundConnecting(sent);
  sent.on('timeout', () => sent.destroy(new Error(`the server sent nothing for ${silenceTimeoutMs} ms`)));
  const answered = once(sent, 'response') as Promise<[IncomingMessage]>;
  void sendBody(sent, body);
  const [message] = await answered;
  // A server may answer before it has read the whole request, and then close the connection. The answer still counts,
  // so later errors of the request are ignored.
  sent.on('error', () => undefined);
  return responseOf(message);
}

/** Destroys the request if it gets no connection within connectTimeoutMs. */
function boundConnecting(request: ClientRequest): void {
  request.once('socket', (socket) => {
    if (!socket.connecting) return;
    const timer = setTimeout(() => {
      const error = new Error(`no connection within ${connectTimeoutMs} ms`);
      request.destroy(Object.assign(error, { code: 'ETIMEDOUT' }));
    }, connectTimeoutMs);
    for (const event of ['connect', 'close']) {
      socket.once(event, () => {
        clearTimeout(timer);
      });
    }
  });
}

async function sendBody(request: ClientRequest, body: PlatformRequest['body']): Promise<void> {
  if (body === undefined || typeof body === 'string') request.end(body);
  else {
    // If the source fails, the pipeline destroys the request. The caller then gets the error of the request.
    await pipeline(body instanceof Blob ? body.stream() : body, request).catch(() => undefined);
  }
}

function responseOf(message: IncomingMessage): PlatformResponse {
  const status = message.statusCode ?? 0;
  return {
    ok: status >= 200 && status < 300,
    status,
    headers: {
      get(name) {
        const value = message.headers[name.toLowerCase()] ?? null;
        return Array.isArray(value) ? value.join(', ') : value;
      },
    },
    body: bodyOf(message),
    trailers: { get: (name) => message.trailers[name.toLowerCase()] ?? null },
    async text() {
      const pieces: Buffer[] = [];
      for await (const piece of message) pieces.push(piece as Buffer);
      return Buffer.concat(pieces).toString('utf8');
    },
  };
}

function bodyOf(message: IncomingMessage): PlatformBody {
  return {
    getReader() {
      const pieces = message[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>;
      return {
        read: () => pieces.next(),
        async cancel() {
          message.destroy();
        },
      };
    },
  };
}
