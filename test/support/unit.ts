// What unit tests share: a temporary directory that goes with its test, a logger that keeps quiet, random numbers that
// come out the same each time, and waiting for something to become true.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import type { Logger } from '../../src/shared/log.ts';

/** An empty directory, deleted when the test is over. Its path is short enough for a Unix socket. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'bxr-'));
  onTestFinished(() => {
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

export const quietLog: Logger = pino({ level: 'silent' });

export interface Random {
  /** A whole number from `least` to `most`, both included. */
  whole(least: number, most: number): number;
  bytes(length: number): Buffer;
  pick<T>(from: readonly T[]): T;
}

/** The same numbers for the same seed (mulberry32). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const whole = (least: number, most: number) => least + Math.floor(next() * (most - least + 1));
  return {
    whole,
    bytes: (length) => Buffer.from(Array.from({ length }, () => whole(0, 255))),
    pick: (from) => from[whole(0, from.length - 1)] as (typeof from)[number],
  };
}

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

/** Resolves once `condition` holds; fails naming `what` after `timeoutMs` milliseconds. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 5_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
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
