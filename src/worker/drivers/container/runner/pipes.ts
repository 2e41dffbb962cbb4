// Pipes for commands that the runner starts. The runner's half on the host makes FIFOs ahead, in a file system that is
// mounted nowhere. The runner opens them by name, the worker through a descriptor of that half. Each name is used once,
// and unlinked as soon as both sides have opened it.
import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { limits } from '../../../../shared/limits.ts';
import { RunnerGone } from './channel.ts';
import { createOutputPipe } from './output-pipe.ts';

/** Number of FIFOs per request. runner.h has the same number. */
const batch = 256;
const refillBelow = 128;

/** The caller either takes the pipe, after the runner has opened its end, or removes it. */
interface NamedPipe {
  readonly name: string;
  remove(): void;
}

export interface OutputPipe extends NamedPipe {
  /** Nothing is read before `firstLook` resolves. */
  take(firstLook: Promise<unknown>): Readable;
}

export interface InputPipe extends NamedPipe {
  take(): Socket;
}

export interface NamedPipes {
  /** A pipe to which a command writes. */
  output(): Promise<OutputPipe>;
  /** A pipe from which a command reads. */
  input(): Promise<InputPipe>;
}

/**
 * @param connection leads to the runner's half on the host
 * @param dir path of that half's descriptor of the directory with the FIFOs
 */
export function createNamedPipes(connection: Duplex, dir: string): NamedPipes {
  let used = 0;
  let made = 0;
  let isRequested = false;
  let waiting: Array<() => void> = [];
  connection.on('data', (answers: Buffer) => {
    made += batch * answers.length;
    isRequested = false;
    for (const resolve of waiting) resolve();
    waiting = [];
  });
  // Each wait for an answer has a deadline, and the channel to the runner notices its end.
  connection.on('error', () => undefined);

  const requestMore = () => {
    if (isRequested) return;
    isRequested = true;
    connection.write('+');
  };
  const answered = () =>
    new Promise<void>((resolve) => {
      waiting.push(resolve);
    });
  const nextName = async (): Promise<string> => {
    if (made - used < refillBelow) requestMore();
    while (used === made) {
      requestMore();
      await withDeadline(answered(), limits.runnerStartTimeoutMs, 'making pipes');
    }
    return String((used += 1));
  };

  return {
    async output() {
      const name = await nextName();
      const path = `${dir}/${name}`;
      const fd = openPipe(path, constants.O_RDONLY);
      // The worker reads only after the runner has opened its end: before that, the pipe would seem to have ended.
      return { ...namedPipe(name, path, fd), take: (firstLook) => taken(path, createOutputPipe(fd, firstLook)) };
    },
    async input() {
      const name = await nextName();
      const path = `${dir}/${name}`;
      // Without a reader the pipe cannot be opened for writing. So the worker opens it for both directions first.
      const both = openPipe(path, constants.O_RDWR);
      try {
        const fd = openPipe(path, constants.O_WRONLY);
        return {
          ...namedPipe(name, path, fd),
          take: () => taken(path, new Socket({ fd, readable: false, writable: true })),
        };
      } finally {
        closeSync(both);
      }
    },
  };
}

function openPipe(path: string, flags: number): number {
  try {
    return openSync(path, flags | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new RunnerGone('the runner of the box ended', { cause: error });
    throw error;
  }
}

function taken<Stream>(path: string, stream: Stream): Stream {
  unlinkQuietly(path);
  return stream;
}

function namedPipe(name: string, path: string, fd: number): NamedPipe {
  return {
    name,
    remove() {
      unlinkQuietly(path);
      closeSync(fd);
    },
  };
}

/** The whole file system disappears when the runner's half on the host ends. */
function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It does not exist.
  }
}
