// HTTP to one server, by TCP or by a Unix socket. Everything of the SDK that knows Node is in here.
// A server at work sends something every few seconds, so silence means that it is gone: the timeouts are of silence.
import { Agent, fetch, type Response } from 'undici';
import { errorOfAnswer, errorOfConnection } from './errors.ts';

/** Where the server is: a Unix socket, or the URL of a TCP address. */
export type ServerAddress = { readonly socketPath: string } | { readonly url: string };

export interface TransportRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly body?: unknown;
  readonly accept?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

export interface Transport {
  /** For people. */
  readonly address: string;
  /**
   * The answer, when it is a success.
   * @throws the error of the answer; UNAVAILABLE when there is none; CANCELED when `signal` aborts
   */
  send(request: TransportRequest): Promise<Response>;
  /** The JSON of the answer. */
  json<T>(request: TransportRequest): Promise<T>;
  close(): Promise<void>;
}

const headersTimeoutMs = 60_000;
const bodyTimeoutMs = 45_000;

export function createTransport(server: ServerAddress): Transport {
  const agent = new Agent({
    headersTimeout: headersTimeoutMs,
    bodyTimeout: bodyTimeoutMs,
    ...('socketPath' in server ? { connect: { socketPath: server.socketPath } } : {}),
  });
  // The host of a Unix socket is nobody's; servers know this name.
  const base = 'socketPath' in server ? 'http://localhost' : server.url.replace(/\/+$/, '');
  const address = 'socketPath' in server ? server.socketPath : base;

  async function send({ method, path, body, accept, headers, signal }: TransportRequest): Promise<Response> {
    try {
      const response = await fetch(`${base}${path}`, {
        method,
        dispatcher: agent,
        headers: {
          accept: accept ?? 'application/json',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal === undefined ? {} : { signal }),
      });
      if (response.ok) return response;
      throw errorOfAnswer(response.status, await response.text());
    } catch (error) {
      throw errorOfConnection(error, address, signal);
    }
  }

  return {
    address,
    send,
    async json<T>(request: TransportRequest) {
      const response = await send(request);
      try {
        return (await response.json()) as T;
      } catch (error) {
        throw errorOfConnection(error, address, request.signal);
      }
    },
    close: () => agent.close(),
  };
}
