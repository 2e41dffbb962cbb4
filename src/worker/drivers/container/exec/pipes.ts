// Real pipes for the streams of commands. Node gives a child socket pairs, which a program cannot open again as
// /dev/stdout or /dev/stdin; so FIFOs are made ahead, many at a time, and each is unlinked once both of its ends are
// open: nobody can open it by name, and none is used twice. Owned by the driver of one box.
import { closeSync, constants, openSync, readdirSync, unlinkSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import { aheadPaths, takeAhead } from './ahead.ts';
import type { BoxPaths } from '../box/paths.ts';
import { mustRun, toolEnvironment } from '../host/tools.ts';

const batchSize = 64;
const refillBelow = 8;
const makeTimeoutMs = 10_000;

interface OutputPipe {
  readonly reader: Socket;
  /** For the child; close it here once the child has it. */
  readonly childFd: number;
}

interface InputPipe {
  readonly writer: Socket;
  readonly childFd: number;
}

export interface PipePool {
  /** Empties the directory and makes the first pipes, or takes those that were made ahead. */
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
    // Anyone may open them who can reach them: inside the box, through /dev/stdout, as whatever user the command runs.
    // With the mark of the box: it may work while the box comes up, and must end with it.
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
  const take = async (): Promise<string> => {
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
      // A tool of a worker that was killed may be making pipes here for its last moment.
      await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 10 });
      if (aheadDir !== undefined && (await takeAhead(aheadPaths(aheadDir).pipes, dir))) {
        ready.push(...readdirSync(dir).map((name) => join(dir, name)));
        return;
      }
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await make();
    },
    async output() {
      const path = await take();
      const ours = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const childFd = openOther(path, constants.O_WRONLY, ours);
      unlinkSync(path);
      return { reader: new Socket({ fd: ours, readable: true, writable: false }), childFd };
    },
    async input() {
      const path = await take();
      // A FIFO opened for both never waits for the other side; it only holds the door.
      const both = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
      const childFd = openOther(path, constants.O_RDONLY, both);
      const ours = openOther(path, constants.O_WRONLY | constants.O_NONBLOCK, both);
      closeSync(both);
      unlinkSync(path);
      return { writer: new Socket({ fd: ours, readable: false, writable: true }), childFd };
    },
  };
}

function openOther(path: string, flags: number, first: number): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    closeSync(first);
    throw error;
  }
}
