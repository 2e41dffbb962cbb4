// Pipes for commands that the OCI runtime starts. The agent makes its own pipes in the box. Node gives a child socket
// pairs, and a program cannot open those again as /dev/stdout or /dev/stdin. So this file makes FIFOs ahead, many at a
// time. Each is unlinked as soon as both ends are open: then no process can open it by name, and no FIFO is used twice.
import { closeSync, constants, openSync, readdirSync, unlinkSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import { aheadPaths, takeAhead } from '../host/ahead.ts';
import type { BoxPaths } from '../paths.ts';
import { mustRun, toolEnvironment } from '../host/tools.ts';

const batchSize = 64;
const refillBelow = 8;
const makeTimeoutMs = 10_000;

interface OutputPipe {
  readonly reader: Socket;
  /** The end for the child. The caller closes it when the child has been started. */
  readonly childFd: number;
}

interface InputPipe {
  readonly writer: Socket;
  readonly childFd: number;
}

export interface PipePool {
  /** Empties the directory and makes the first pipes, or takes the pipes that were made ahead. */
  open(aheadDir?: string): Promise<void>;
  output(): Promise<OutputPipe>;
  input(): Promise<InputPipe>;
}

export function createPipePool({ pipes: dir, home }: Pick<BoxPaths, 'pipes' | 'home'>): PipePool {
  const ready: string[] = [];
  let made = 0;
  let refill: Promise<void> | null = null;

  const make = async () => {
    const names = Array.from({ length: batchSize }, () => join(dir, `${process.pid}-${(made += 1)}`));
    // Every user in the box may open them: a command may run as any user and open /dev/stdout. On the host only root
    // reaches the directory. mkfifo carries the mark of the box, because it may still run when the box is removed.
    await mustRun('mkfifo', ['-m', '666', ...names], {
      timeoutMs: makeTimeoutMs,
      env: toolEnvironment({ [homeMark]: home }),
    });
    ready.push(...names);
  };
  const startRefill = () => {
    refill ??= make().finally(() => {
      refill = null;
    });
    return refill;
  };
  const takePath = async (): Promise<string> => {
    for (;;) {
      const path = ready.pop();
      if (ready.length < refillBelow) {
        const work = startRefill();
        if (path === undefined) await work;
        else work.catch(() => undefined);
      }
      if (path !== undefined) return path;
    }
  };

  return {
    async open(aheadDir) {
      ready.length = 0;
      // A tool may still make pipes here for a moment after its worker was killed. So this is retried.
      await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 10 });
      if (aheadDir !== undefined && (await takeAhead(aheadPaths(aheadDir).pipes, dir))) {
        ready.push(...readdirSync(dir).map((name) => join(dir, name)));
        return;
      }
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await make();
    },
    async output() {
      const path = await takePath();
      const readerFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const childFd = openOtherEnd(path, constants.O_WRONLY, readerFd);
      unlinkSync(path);
      return { reader: new Socket({ fd: readerFd, readable: true, writable: false }), childFd };
    },
    async input() {
      const path = await takePath();
      // Opening a FIFO for both directions never waits. This descriptor only keeps the next two calls from waiting.
      const both = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
      const childFd = openOtherEnd(path, constants.O_RDONLY, both);
      const writerFd = openOtherEnd(path, constants.O_WRONLY | constants.O_NONBLOCK, both);
      closeSync(both);
      unlinkSync(path);
      return { writer: new Socket({ fd: writerFd, readable: false, writable: true }), childFd };
    },
  };
}

function openOtherEnd(path: string, flags: number, openFd: number): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    closeSync(openFd);
    throw error;
  }
}
