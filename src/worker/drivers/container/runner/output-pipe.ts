// The reading end of a command's pipe. Most commands are short and write little: such a pipe is read once, at the
// command's end, and needs nothing of the event loop. Where it has not come to its end by then, or after a moment, it
// is read like any other. Made by pipes.ts.
import { closeSync, readSync } from 'node:fs';
import { Socket } from 'node:net';
import { Readable } from 'node:stream';

/** Each read is copied out of it before the next one. */
const scratch = Buffer.allocUnsafeSlow(64 * 1024);

/** `fd` does not block, and belongs to the stream from now on; `firstLook` resolves when it is to be read first. */
export function createOutputPipe(fd: number, firstLook: Promise<unknown>): Readable {
  return new OutputPipe(fd, firstLook);
}

class OutputPipe extends Readable {
  /** Null once it is closed, or the socket's. */
  #fd: number | null;
  #socket: Socket | null = null;
  readonly #firstLook: Promise<unknown>;

  constructor(fd: number, firstLook: Promise<unknown>) {
    super();
    this.#fd = fd;
    this.#firstLook = firstLook;
  }

  override _read(): void {
    if (this.#socket !== null) this.#socket.resume();
    else
      void this.#firstLook.then(() => {
        this.#look();
      });
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket?.destroy();
    this.#close();
    done(error);
  }

  #look(): void {
    if (this.#fd === null) return;
    try {
      const length = readSync(this.#fd, scratch, 0, scratch.length, null);
      if (length > 0) {
        this.push(Buffer.from(scratch.subarray(0, length))); // `_read` follows.
      } else {
        this.#close();
        this.push(null);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') this.#listen(this.#fd);
      else this.destroy(error as Error);
    }
  }

  #listen(fd: number): void {
    const socket = new Socket({ fd, readable: true, writable: false });
    this.#fd = null;
    this.#socket = socket;
    socket.on('data', (piece: Buffer) => {
      if (!this.push(piece)) socket.pause();
    });
    socket.once('end', () => {
      this.push(null);
    });
    socket.once('error', (error) => {
      this.destroy(error);
    });
  }

  #close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}
