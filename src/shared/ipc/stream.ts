// A stream of bytes with a few words of control between two processes: one Unix socket connection, for one terminal or
// one file. Sending waits for the other side, reading takes only what is asked for. Each direction ends with an
// explicit `end`: the death of a peer is never taken for the end of its bytes. The client's first message names the
// token that says what it is about.
import type { Socket } from 'node:net';
import { drained } from '../waiting/drained.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';
import { createFrameDecoder, encodeFrame } from './frame.ts';
import { connectTo } from './socket.ts';
import { decodeError, encodeError, type WireError } from './wire.ts';

type StreamMessage =
  | readonly ['open', token: string]
  | readonly ['data', bytes: Uint8Array]
  | readonly ['control', value: unknown]
  | readonly ['end']
  | readonly ['error', error: WireError];

/** What comes from the other side before its end. */
export type StreamItem = { readonly bytes: Uint8Array } | { readonly control: unknown };

export interface ByteStream {
  /** Resolves when there is room for more. @throws UNAVAILABLE when the connection has ended */
  send(bytes: Uint8Array): Promise<void>;
  control(value: unknown): Promise<void>;
  /** Nothing more comes from this side. */
  end(): Promise<void>;
  /** Tells the other side what went wrong; nothing more comes from this side. */
  fail(error: unknown): Promise<void>;
  /**
   * The next item; null after the other side's `end`.
   * @throws what the other side failed with, UNAVAILABLE when the connection ends before its `end`
   */
  next(): Promise<StreamItem | null>;
  /** Resolves when the connection has ended, whoever ended it. It is noticed only while somebody reads or sends. */
  readonly closed: Promise<void>;
  /** Closes once what was sent is on its way. */
  finish(): void;
  close(): void;
}

/** Room for a message around the bytes of the longest piece. */
const frameBytesMax = limits.streamPieceBytesMax + 64 * 1024;

/**
 * Connects to a stream socket for what `token` stands for.
 * @throws UNAVAILABLE when nobody listens there
 */
export async function openStream(socketPath: string, token: string): Promise<ByteStream> {
  const socket = await connectTo(socketPath);
  const stream = new SocketStream(socket);
  await stream.write(['open', token]);
  return stream;
}

/**
 * The serving side: waits for the client's token.
 * @throws UNAVAILABLE when it does not come in time, VALIDATION_ERROR when something else comes first
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
  readonly #decode = createFrameDecoder(frameBytesMax);
  #messages: unknown[] = [];
  #hasEnded = false;

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
    for (let from = 0; from < bytes.length; from += limits.streamPieceBytesMax) {
      await this.write(['data', bytes.subarray(from, from + limits.streamPieceBytesMax)]);
    }
  }

  control(value: unknown): Promise<void> {
    return this.write(['control', value]);
  }

  end(): Promise<void> {
    return this.write(['end']);
  }

  async fail(error: unknown): Promise<void> {
    await this.write(['error', encodeError(error)]).catch(() => undefined); // It is gone itself.
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
    if (!this.#socket.writable) throw new BoxRunError('UNAVAILABLE', 'the stream broke off');
    if (this.#socket.write(encodeFrame(message))) return;
    await drained(this.#socket);
    if (this.#socket.destroyed) throw new BoxRunError('UNAVAILABLE', 'the stream broke off');
  }

  #refuse(): BoxRunError {
    this.close();
    return new BoxRunError('UNAVAILABLE', 'what came on the stream was not understood');
  }
}

function parseMessage(value: unknown): StreamMessage | null {
  if (!Array.isArray(value)) return null;
  const [kind, content] = value as readonly unknown[];
  const isGood =
    (kind === 'open' && typeof content === 'string') ||
    (kind === 'data' && content instanceof Uint8Array) ||
    (kind === 'control' && content !== undefined) ||
    (kind === 'end' && value.length === 1) ||
    (kind === 'error' && typeof content === 'object' && content !== null);
  return isGood ? (value as unknown as StreamMessage) : null;
}
