// Tools for unit tests: a temporary directory that is removed with its test, a silent logger, random pieces of a
// buffer, and promises that the test settles.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import type { Logger } from '../../../src/shared/observe/log.ts';
import type { Random } from './random.ts';

/** Makes an empty directory, which is removed at the end of the test. Its path is short enough for a Unix socket. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'bxr-'));
  onTestFinished(() => {
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

export const quietLog: Logger = pino({ level: 'silent' });

/** Cuts `whole` at random places into pieces of at most `longest` bytes. */
export function cutAtRandom(whole: Buffer, random: Random, longest: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let from = 0; from < whole.length;) {
    const to = from + random.whole(1, longest);
    pieces.push(whole.subarray(from, to));
    from = to;
  }
  return pieces;
}

/** Makes a promise that the test resolves or rejects itself. */
export function controlledPromise<T>(): {
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

/** Waits for some turns of the event loop, so that everything that is due has run. */
export async function settle(turns = 5): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
