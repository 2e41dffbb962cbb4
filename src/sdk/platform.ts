// What the SDK needs from the platform that it runs on: requests, WebSockets, and files where there are any.
// node.ts and browser.ts each give one; everything else of the SDK is the same on both, and knows neither.

export interface PlatformRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Blob | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal;
}

/** The bytes of an answer, as `fetch` gives them. */
export interface PlatformBody {
  getReader(): {
    read(): Promise<{ readonly done?: boolean; readonly value?: Uint8Array | undefined }>;
    /** Ends the answer; the bytes that are not read yet are lost. */
    cancel(): Promise<void>;
  };
}

/** The part of a fetch response that the SDK uses. */
export interface PlatformResponse {
  readonly ok: boolean;
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: PlatformBody | null;
  text(): Promise<string>;
}

/** The part of a WebSocket that the SDK uses. */
export interface PlatformWebSocket {
  binaryType: string;
  readonly bufferedAmount: number;
  send(data: string | Uint8Array): void;
  close(code?: number): void;
  addEventListener(
    type: 'open' | 'error' | 'close',
    listener: (event: { readonly error?: unknown; readonly reason?: string }) => void,
  ): void;
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void;
}

export interface LocalFiles {
  read(path: string): AsyncIterable<Uint8Array>;
  /** Writes beside `path` and renames, so that a half-written file is never at `path`; makes missing directories. */
  write(path: string, content: AsyncIterable<Uint8Array>): Promise<void>;
}

export interface Platform {
  /** URL of the server, without a slash at its end. */
  readonly base: string;
  /** Where the server is, for people. */
  readonly address: string;
  /** Null in a browser. */
  readonly files: LocalFiles | null;
  /** False where the body of a request must be there as a whole before it is sent: in browsers. */
  readonly streamsRequests: boolean;
  fetch(url: string, request: PlatformRequest): Promise<PlatformResponse>;
  openWebSocket(url: string): Promise<PlatformWebSocket>;
  bytesOfBase64(text: string): Uint8Array;
  /** Ends every request under way, and gives connections back. */
  close(): Promise<void>;
}
