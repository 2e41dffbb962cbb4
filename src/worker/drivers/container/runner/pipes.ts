// Pipes for commands that the runner starts. Its half on the host makes them ahead, in a file system that is mounted
// nowhere; the runner opens them by name, and we through the descriptor of that half. Each name is used once, and
// unlinked as soon as both sides have it.
import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { limits } from '../../../../shared/limits.ts';
import { RunnerGone } from './channel.ts';
import { createOutputPipe } from './output-pipe.ts';

/** Made at a time; the same number stands in runner.h. */
const batch = 256;
const refillBelow = 128;

/** Either taken, once the runner has opened its end, or dropped. */
interface NamedPipe {
  readonly name: string;
  drop(): void;
}

export interface OutputPipe extends NamedPipe {
  /** Nothing is read before `firstLook` resolves. */
  take(firstLook: Promise<unknown>): Readable;
}

export interface InputPipe extends NamedPipe {
  take(): Socket;
}

export interface NamedPipes {
  /** For what a command writes. */
  output(): Promise<OutputPipe>;
  /** For what it reads. */
  input(): Promise<InputPipe>;
}

/** `line` leads to the half on the host, whose descriptor of the directory is `dir`. */
export function createNamedPipes(line: Duplex, dir: string): NamedPipes {
  let used = 0;
  let made = 0;
  let isAsked = false;
  let wake: Array<() => void> = [];
  line.on('data', (answers: Buffer) => {
    made += batch * answers.length;
    isAsked = false;
    for (const resolve of wake) resolve();
    wake = [];
  });
  line.on('error', () => undefined); // Whoever waits for an answer has a deadline; the runner's own line says the rest.

  const ask = () => {
    if (isAsked) return;
    isAsked = true;
    line.write('+');
  };
  const answered = () =>
    new Promise<void>((resolve) => {
      wake.push(resolve);
    });
  const nextName = async (): Promise<string> => {
    if (made - used < refillBelow) ask();
    while (used === made) {
      ask();
      await withDeadline(answered(), limits.runnerStartTimeoutMs, 'making pipes');
    }
    return String((used += 1));
  };

  return {
    async output() {
      const name = await nextName();
      const path = `${dir}/${name}`;
      const fd = openPipe(path, constants.O_RDONLY);
      // Read only once the other side has opened it too: before, there seems to be nobody who writes.
      return { ...namedPipe(name, path, fd), take: (firstLook) => taken(path, createOutputPipe(fd, firstLook)) };
    },
    async input() {
      const name = await nextName();
      const path = `${dir}/${name}`;
      // Opened for both it never waits for the other side; without one, it cannot be opened for writing.
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
    drop() {
      unlinkQuietly(path);
      closeSync(fd);
    },
  };
}

/** With its maker, the whole file system may be gone. */
function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Nothing to remove.
  }
}
