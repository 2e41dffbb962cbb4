// Sends requests to one server through the platform. All requests of the SDK go through this file.
// Every error that it throws is an error of the catalogue.
import { BoxRunError } from '../shared/errors.ts';
import { errorOfAnswer, errorOfConnection } from './errors.ts';
import type { Platform, PlatformRequest, PlatformResponse } from './platform.ts';

export interface TransportRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Path with query. */
  readonly path: string;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent unchanged, with the header `contentType`. Ignored if `json` is set. */
  readonly body?: Blob | AsyncIterable<Uint8Array>;
  readonly contentType?: string;
  readonly accept?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

export interface Transport {
  readonly platform: Platform;
  /**
   * Sends a request and gives the successful answer.
   * @throws the error of the answer; UNAVAILABLE if there is no answer; CANCELED if `signal` aborts or the client is
   * closed
   */
  send(request: TransportRequest): Promise<PlatformResponse>;
  /** The JSON of the answer. @throws the same errors as `send` */
  json<T>(request: TransportRequest): Promise<T>;
  jsonAnswer<T>(
    request: TransportRequest,
  ): Promise<{ readonly body: T; readonly headers: PlatformResponse['headers'] }>;
  /** Turns the error of a request or an answer into an error of the catalogue. */
  errorOf(error: unknown, signal: AbortSignal | undefined): BoxRunError;
  /**
   * Calls `listener` when the client is closed, or at once if it is closed already. Returns a function that removes the
   * listener.
   */
  onClose(listener: () => void): () => void;
  close(): Promise<void>;
}

export function createTransport(platform: Platform): Transport {
  let isClosed = false;
  const closeListeners = new Set<() => void>();

  function errorOf(error: unknown, signal: AbortSignal | undefined): BoxRunError {
    if (isClosed && !(error instanceof BoxRunError))
      return new BoxRunError('CANCELED', 'the client was closed', { cause: error });
    return errorOfConnection(error, platform.address, signal);
  }

  async function send(request: TransportRequest): Promise<PlatformResponse> {
    if (isClosed) throw new BoxRunError('CANCELED', 'the client was closed');
    try {
      const response = await platform.fetch(`${platform.base}${request.path}`, platformRequest(request));
      if (response.ok) return response;
      throw errorOfAnswer(response.status, await response.text());
    } catch (error) {
      throw errorOf(error, request.signal);
    }
  }

  async function jsonAnswer<T>(request: TransportRequest) {
    const response = await send(request);
    try {
      return { body: JSON.parse(await response.text()) as T, headers: response.headers };
    } catch (error) {
      throw errorOf(error, request.signal);
    }
  }

  return {
    platform,
    send,
    errorOf,
    jsonAnswer,
    json: async <T>(request: TransportRequest) => (await jsonAnswer<T>(request)).body,
    onClose(listener) {
      closeListeners.add(listener);
      if (isClosed) listener();
      return () => closeListeners.delete(listener);
    },
    async close() {
      isClosed = true;
      for (const listener of closeListeners) listener();
      await platform.close();
    },
  };
}

function platformRequest({
  method,
  json,
  body,
  contentType,
  accept = 'application/json',
  headers,
  signal,
}: TransportRequest): PlatformRequest {
  const content = json === undefined ? body : JSON.stringify(json);
  const type = json === undefined ? contentType : 'application/json';
  return {
    method,
    headers: {
      accept,
      ...(type === undefined ? {} : { 'content-type': type }),
      // A misspelled field is then an error. Servers that do not know this preference ignore it (RFC 7240).
      ...(json === undefined ? {} : { prefer: 'handling=strict' }),
      ...headers,
    },
    ...(content === undefined ? {} : { body: content }),
    ...(signal === undefined ? {} : { signal }),
  };
}
