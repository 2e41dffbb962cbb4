// The reading end of a command's pipe. Most commands are short and write little: their pipe is read once, at the
// command's end, and costs the event loop nothing. If the pipe has not ended by then, or after a short time, it becomes
// an ordinary stream.
import { closeSync, readSync } from 'node:fs';
import { Socket } from 'node:net';
import { Readable } from 'node:stream';

/** Shared by all pipes: each read is copied out of it at once. */
const scratch = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * @param fd a non-blocking descriptor, which the stream closes
 * @param firstLook the stream reads nothing before this resolves
 */
export function createOutputPipe(fd: number, firstLook: Promise<unknown>): Readable {
  return new OutputPipe(fd, firstLook);
}

class OutputPipe extends Readable {
  /** Null when it is closed, or belongs to the socket. */
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
        this.push(Buffer.from(scratch.subarray(0, length))); // Node calls `_read` again.
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
