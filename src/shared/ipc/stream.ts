// A stream between two processes: bytes and small control messages for one terminal or one file, over a Unix socket of
// its own. The first message of the client is a token that says what the stream is for. Sending waits for the other
// side. Each direction ends with an explicit `end`, so the death of a process never looks like the end of its data.
import type { Socket } from 'node:net';
import { drained } from '../waiting/drained.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';
import { bytesHeadMax, createFrameDecoder, encodeBytesHead, encodeFrame, readBytesHead } from './frame.ts';
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
  /**
   * Gives up the connection: the caller owns the socket from now on, and no other call of this stream does anything.
   */
  release(): Socket;
}

/** Bytes: the longest piece, and room for the message around it. */
const frameBytesMax = limits.streamPieceBytesMax + 64 * 1024;
/** Bytes of the length before each frame. */
const frameHeadBytes = 4;
const noBytes: Buffer = Buffer.alloc(0);

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

/** As openStream, for a connection that carries plain bytes after the token. */
export async function openDirect(socketPath: string, token: string): Promise<Socket> {
  const socket = await connectTo(socketPath);
  socket.on('error', () => undefined); // 'close' follows.
  socket.write(encodeFrame(['open', token]));
  return socket;
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
  /** What was read and is not given yet. */
  #held = noBytes;
  /** Bytes of the present frame that are not given yet. They are given as they come, without a copy. */
  #bytesLeft = 0;
  #hasEnded = false;
  #isReleased = false;
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
    for (let from = 0; from < bytes.length; from += limits.streamPieceBytesMax) {
      const piece = bytes.subarray(from, from + limits.streamPieceBytesMax);
      this.#socket.cork();
      this.#put(encodeBytesHead(piece.length));
      const hasRoom = this.#put(piece);
      this.#socket.uncork();
      await this.#room(hasRoom);
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
    const bytes = await this.#nextBytes();
    if (bytes !== null) return { bytes };
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

  release(): Socket {
    this.#isReleased = true;
    return this.#socket;
  }

  finish(): void {
    if (!this.#isReleased) this.#socket.destroySoon();
  }

  close(): void {
    if (!this.#isReleased) this.#socket.destroy();
  }

  /** The next bytes, if a frame with bytes is next. */
  async #nextBytes(): Promise<Uint8Array | null> {
    if (this.#bytesLeft === 0) {
      await this.#fill(frameHeadBytes);
      // Every frame says its length first. A shorter one than the head cannot have bytes.
      if (this.#held.readUInt32BE(0) + frameHeadBytes < bytesHeadMax) return null;
      await this.#fill(bytesHeadMax);
      const count = this.#checked(() => readBytesHead(this.#held, frameBytesMax));
      if (count === null) return null;
      this.#held = this.#held.subarray(bytesHeadMax);
      this.#bytesLeft = count;
    }
    if (this.#held.length === 0 && this.#bytesLeft > 0) this.#held = await this.#read();
    const bytes = this.#held.subarray(0, this.#bytesLeft);
    this.#held = this.#held.subarray(bytes.length);
    this.#bytesLeft -= bytes.length;
    return bytes;
  }

  /** The next frame, which is no frame of #nextBytes. */
  async message(): Promise<StreamMessage> {
    const decode = createFrameDecoder(frameBytesMax);
    await this.#fill(frameHeadBytes);
    const frameBytes = frameHeadBytes + this.#held.readUInt32BE(0);
    if (frameBytes > frameHeadBytes + frameBytesMax) throw this.#refuse();
    await this.#fill(frameBytes);
    const [decoded] = this.#checked(() => decode(this.#held.subarray(0, frameBytes)));
    this.#held = this.#held.subarray(frameBytes);
    const message = parseMessage(decoded);
    if (message === null) throw this.#refuse();
    return message;
  }

  /** Reads until `count` bytes are held. */
  async #fill(count: number): Promise<void> {
    if (this.#held.length >= count) return;
    const pieces = [this.#held];
    for (let bytes = this.#held.length; bytes < count;) {
      const piece = await this.#read();
      pieces.push(piece);
      bytes += piece.length;
    }
    this.#held = Buffer.concat(pieces);
  }

  async #read(): Promise<Buffer> {
    const piece = await this.#pieces.next().catch(() => null);
    if (piece === null || piece.done === true) throw new BoxRunError('UNAVAILABLE', 'the stream broke off');
    return piece.value;
  }

  #checked<T>(decode: () => T): T {
    try {
      return decode();
    } catch {
      throw this.#refuse();
    }
  }

  async write(message: StreamMessage): Promise<void> {
    await this.#room(this.#put(encodeFrame(message)));
  }

  #put(bytes: Uint8Array): boolean {
    if (this.#isReleased || !this.#socket.writable) throw new BoxRunError('UNAVAILABLE', 'the stream broke off');
    return this.#socket.write(bytes);
  }

  async #room(hasRoom: boolean): Promise<void> {
    if (hasRoom) return;
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
