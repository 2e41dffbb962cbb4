// A stream between two processes: bytes and small control messages for one terminal or one file, over a Unix socket of
// its own. The first message of the client is a token that says what the stream is for. Sending waits for the other
// side. Each direction ends with an explicit `end`, so the death of a process never looks like the end of its data.
import type { Socket } from 'node:net';
import { drained } from '../waiting/drained.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';
import { encodeFrame } from './frame.ts';
import { createStreamDecoder, dataHead } from './stream-frames.ts';
import { connectTo } from './socket.ts';
import { decodeError, encodeError, type WireError } from './wire.ts';

type StreamMessage =
  | readonly ['open', token: string]
  | readonly ['data', bytes: Uint8Array]
  | readonly ['control', value: unknown]
  | readonly ['end']
  | readonly ['error', error: WireError];

/** One message from the other side. */
export type StreamItem = { readonly bytes: Uint8Array } | { readonly control: unknown };

export interface ByteStream {
  /** Resolves when the connection has room for more. @throws UNAVAILABLE if the connection has ended */
  send(bytes: Uint8Array): Promise<void>;
  /** As `send`, with a control message. */
  control(value: unknown): Promise<void>;
  /** Tells the other side that this side sends nothing more. A second call has no effect. */
  end(): Promise<void>;
  /** Tells the other side the error, instead of `end`. */
  fail(error: unknown): Promise<void>;
  /**
   * The next item, or null after the other side's `end`.
   * @throws the error of the other side's `fail`; UNAVAILABLE if the connection ends before `end`
   */
  next(): Promise<StreamItem | null>;
  /** Call it after the other side's `end`: it watches the connection, and resolves when the connection has ended. */
  untilClosed(): Promise<void>;
  /** Resolves when the connection has ended. Node notices the end only while this side reads or sends. */
  readonly closed: Promise<void>;
  /** Closes the connection after everything that was sent is written. */
  finish(): void;
  /** Closes the connection at once. */
  close(): void;
}

/** Bytes: the longest piece, and room for the message around it. */
const frameBytesMax = limits.streamPieceBytesMax + 64 * 1024;

/**
 * Connects to a stream socket and sends the token.
 * @throws UNAVAILABLE if no process listens there
 */
export async function openStream(socketPath: string, token: string): Promise<ByteStream> {
  const socket = await connectTo(socketPath);
  const stream = new SocketStream(socket);
  await stream.write(['open', token]);
  return stream;
}

/**
 * The server's side: waits for the client's token.
 * @throws UNAVAILABLE if it does not arrive within limits.helloTimeoutMs, VALIDATION_ERROR if another message is first
 */
export async function acceptStream(socket: Socket): Promise<{ token: string; stream: ByteStream }> {
  const stream = new SocketStream(socket);
  const timer = setTimeout(() => {
    stream.close();
  }, limits.helloTimeoutMs);
  try {
    const first = await stream.message();
    if (first[0] !== 'open') throw new BoxRunError('VALIDATION_ERROR', 'the stream did not start with its token');
    return { token: first[1], stream };
  } finally {
    clearTimeout(timer);
  }
}

class SocketStream implements ByteStream {
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #pieces: AsyncIterator<Buffer>;
  readonly #decode = createStreamDecoder(frameBytesMax);
  #messages: unknown[] = [];
  #hasEnded = false;
  #hasSentEnd = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        resolve();
      });
    });
    socket.on('error', () => undefined); // 'close' follows.
    this.#pieces = socket.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  }

  async send(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; from += limits.streamSendBytes) {
      const piece = bytes.subarray(from, from + limits.streamSendBytes);
      this.#needWritable();
      this.#socket.cork();
      this.#socket.write(dataHead(piece.length));
      const hasRoom = this.#socket.write(piece);
      this.#socket.uncork();
      if (!hasRoom) await this.#room();
    }
  }

  control(value: unknown): Promise<void> {
    return this.write(['control', value]);
  }

  async end(): Promise<void> {
    if (this.#hasSentEnd) return;
    this.#hasSentEnd = true;
    await this.write(['end']);
  }

  async fail(error: unknown): Promise<void> {
    await this.write(['error', encodeError(error)]).catch(() => undefined); // The other side has gone.
  }

  async next(): Promise<StreamItem | null> {
    if (this.#hasEnded) return null;
    const message = await this.message();
    switch (message[0]) {
      case 'data':
        return { bytes: message[1] };
      case 'control':
        return { control: message[1] };
      case 'end':
        this.#hasEnded = true;
        return null;
      case 'error':
        throw decodeError(message[1]);
      case 'open':
        throw this.#refuse();
    }
  }

  async untilClosed(): Promise<void> {
    for (;;) {
      const piece = await this.#pieces.next().catch(() => null);
      if (piece === null || piece.done === true) return;
    }
  }

  finish(): void {
    this.#socket.destroySoon();
  }

  close(): void {
    this.#socket.destroy();
  }

  async message(): Promise<StreamMessage> {
    while (this.#messages.length === 0) {
      const piece = await this.#pieces.next().catch(() => null);
      if (piece === null || piece.done === true) throw new BoxRunError('UNAVAILABLE', 'the stream broke off');
      try {
        this.#messages = this.#decode(piece.value);
      } catch {
        throw this.#refuse();
      }
    }
    const message = parseMessage(this.#messages.shift());
    if (message === null) throw this.#refuse();
    return message;
  }

  async write(message: StreamMessage): Promise<void> {
    this.#needWritable();
    if (!this.#socket.write(encodeFrame(message))) await this.#room();
  }

  #needWritable(): void {
    if (!this.#socket.writable) throw new BoxRunError('UNAVAILABLE', 'the stream broke off');
  }

  async #room(): Promise<void> {
    await drained(this.#socket);
    if (this.#socket.destroyed) throw new BoxRunError('UNAVAILABLE', 'the stream broke off');
  }

  #refuse(): BoxRunError {
    this.close();
    return new BoxRunError('UNAVAILABLE', 'the stream brought a message that is not valid');
  }
}

function parseMessage(value: unknown): StreamMessage | null {
  if (!Array.isArray(value)) return null;
  const [kind, content] = value as readonly unknown[];
  const hasForm =
    (kind === 'open' && typeof content === 'string') ||
    (kind === 'data' && content instanceof Uint8Array) ||
    (kind === 'control' && content !== undefined) ||
    (kind === 'end' && value.length === 1) ||
    (kind === 'error' && typeof content === 'object' && content !== null);
  return hasForm ? (value as unknown as StreamMessage) : null;
}
