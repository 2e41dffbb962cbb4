// The interface between the SDK and the platform that it runs on: requests, WebSockets and local files.
// node.ts and browser.ts implement it. The other files of the SDK know only this interface.

export interface PlatformRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Blob | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal;
}

/** The body of an answer: the part of fetch's ReadableStream that the SDK uses. */
export interface PlatformBody {
  getReader(): {
    read(): Promise<{ readonly done?: boolean; readonly value?: Uint8Array | undefined }>;
    /** Ends the answer. Bytes that are not read yet are lost. */
    cancel(): Promise<void>;
  };
}

/** The part of a fetch response that the SDK uses. */
export interface PlatformResponse {
  readonly ok: boolean;
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: PlatformBody | null;
  /** Headers that follow the body; known after it. Absent in browsers. */
  readonly trailers?: { get(name: string): string | null };
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
  /**
   * Writes a file beside `path` and renames it, so that `path` never holds an incomplete file. Creates missing
   * directories.
   */
  write(path: string, content: AsyncIterable<Uint8Array>): Promise<void>;
  /** A directory as a tar archive. @throws RUNTIME_ERROR if the directory cannot be read */
  pack(path: string, options: PackOptions): AsyncIterable<Uint8Array>;
  /** Unpacks an archive, which is not trusted, into a directory. Makes the directory if it is missing. */
  unpack(path: string, archive: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): Promise<void>;
}

export interface PackOptions {
  readonly signal: AbortSignal | undefined;
  /** Called if files changed while they were read. */
  readonly warn: (text: string) => void;
}

export interface LocalListenOptions {
  readonly address: string;
  readonly port: number;
  /** Opens the connection to which a local connection leads. */
  readonly connect: () => Promise<PortConnection>;
  readonly onError: (error: unknown) => void;
}

export interface LocalListener {
  readonly address: string;
  /** The real port, also if the system chose it. */
  readonly port: number;
  close(): Promise<void>;
}

export interface PlatformPorts {
  /** Opens the connection at `path` of the server. @throws the error of the answer, or of the connection */
  connect(path: string, signal: AbortSignal | undefined): Promise<PortConnection>;
  /** @throws UNAVAILABLE */
  listen(options: LocalListenOptions): Promise<LocalListener>;
}

/** A TCP connection to a port of a box. It is a `Duplex` of Node, whose two directions end by themselves. */
export interface PortConnection extends AsyncIterable<Uint8Array> {
  write(data: Uint8Array | string): boolean;
  end(data?: Uint8Array | string): unknown;
  destroy(error?: Error): unknown;
  on(event: string, listener: (...values: never[]) => void): unknown;
  once(event: string, listener: (...values: never[]) => void): unknown;
  pause(): unknown;
  resume(): unknown;
  readonly destroyed: boolean;
}

export interface Platform {
  /** URL of the server, without a slash at its end. */
  readonly base: string;
  /** Where the server is, as text for a person. */
  readonly address: string;
  /** Null in a browser. */
  readonly files: LocalFiles | null;
  /** Null in a browser. */
  readonly ports: PlatformPorts | null;
  /** False in browsers: there the whole body of a request must exist before it is sent. */
  readonly streamsRequests: boolean;
  fetch(url: string, request: PlatformRequest): Promise<PlatformResponse>;
  openWebSocket(url: string): Promise<PlatformWebSocket>;
  bytesOfBase64(text: string): Uint8Array;
  /** Ends every open request and closes their connections. Open WebSockets stay: the caller closes each of them. */
  close(): Promise<void>;
}
