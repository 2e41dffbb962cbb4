// Timestamps, and waits with a deadline or a signal that ends them early. Every wait removes its timer and its listener
// when it ends.
import { BoxRunError } from '../errors.ts';

/** The present time in the form of RFC 3339, in UTC, with milliseconds. */
export function timestamp(): string {
  return new Date().toISOString();
}

/** Waits for `ms` milliseconds. Resolves early, without an error, when `signal` aborts. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve();
      return;
    }
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/**
 * True as soon as `work` resolves, false after `ms` milliseconds. It rejects if `work` rejects before. It costs less
 * than a race with `sleep`.
 */
export async function settledWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<false>((resolve) => {
    timer = setTimeout(() => {
      resolve(false);
    }, ms);
  });
  try {
    return await Promise.race([work.then(() => true), over]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Resolves when Node has read the bytes that already wait in pipes and sockets. On a busy host a timer fires before
 * Node reads them. To be called when a wait for output has timed out, before the output is given up.
 */
export async function pendingReads(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/**
 * The result of `work`. The work itself is not stopped at the deadline; a caller can stop it with a signal.
 * @param what names the work in the error
 * @throws TIMEOUT after `ms` milliseconds
 */
export async function withDeadline<T>(work: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new BoxRunError('TIMEOUT', `${what} took longer than ${ms} ms`));
    }, ms);
  });
  try {
    return await Promise.race([work, expired]);
  } finally {
    clearTimeout(timer);
  }
}
