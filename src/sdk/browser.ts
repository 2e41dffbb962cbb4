// The SDK for browsers, and for other runtimes that have the same fetch and WebSocket. Programs import it as
// `boxrun/sdk/browser`; bundlers that know the `browser` condition find it as `boxrun/sdk`. It uses nothing of Node.
import { BoxRunClient } from './client.ts';
import type { Platform, PlatformRequest, PlatformResponse, PlatformWebSocket } from './platform.ts';

export * from './public.ts';

/** Where a server is: a URL. */
export interface ServerAddress {
  readonly url: string;
}

/**
 * A client of a BoxRun server.
 * @param server by default, the server that the page came from
 */
export class BoxRun extends BoxRunClient {
  constructor(server: ServerAddress = { url: web.location?.origin ?? 'http://127.0.0.1:9090' }) {
    super(createWebPlatform(server));
  }
}

/** The globals of the runtime that this file uses. */
const web = globalThis as unknown as {
  readonly location?: { readonly origin: string };
  readonly WebSocket: new (url: string) => PlatformWebSocket;
  fetch(url: string, request: PlatformRequest): Promise<PlatformResponse>;
};

function createWebPlatform({ url }: ServerAddress): Platform {
  const closed = new AbortController();
  const base = url.replace(/\/+$/, '');
  return {
    base,
    address: base,
    files: null,
    ports: null,
    streamsRequests: false,
    fetch: async (target, request) =>
      web.fetch(target, {
        ...request,
        signal: request.signal === undefined ? closed.signal : AbortSignal.any([request.signal, closed.signal]),
      }),
    openWebSocket: async (target) => new web.WebSocket(target),
    bytesOfBase64: (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)),
    async close() {
      closed.abort();
    },
  };
}
