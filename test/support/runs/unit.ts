// What unit tests share: a temporary directory that goes with its test, a logger that keeps quiet, random numbers that
// come out the same each time, and waiting for something to become true.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import type { Logger } from '../../../src/shared/observe/log.ts';
import type { Random } from './random.ts';

/** An empty directory, deleted when the test is over. Its path is short enough for a Unix socket. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'bxr-'));
  onTestFinished(() => {
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

export const quietLog: Logger = pino({ level: 'silent' });

/** `whole` cut at random places into pieces that together are the same. */
export function cutAtRandom(whole: Buffer, random: Random, longest: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let from = 0; from < whole.length;) {
    const to = from + random.whole(1, longest);
    pieces.push(whole.subarray(from, to));
    from = to;
  }
  return pieces;
}

/** A promise with its ends in the test's hands. */
export function promiseInHand<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}

/** Lets everything that is due in the event loop happen. */
export async function settle(turns = 5): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
