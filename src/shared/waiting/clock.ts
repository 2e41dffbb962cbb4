// Time: RFC 3339 stamps for rows, and waits that can be cut short. Every wait in the project has a deadline.
// Used by every process; nothing here keeps a process alive after its caller gave up.
import { BoxRunError } from '../errors.ts';

/** The present moment as RFC 3339 in UTC with milliseconds. */
export function timestamp(): string {
  return new Date().toISOString();
}

/**
 * Waits `ms` milliseconds; resolves early, without an error, when `signal` aborts.
 */
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

/** True when `work` resolves within `ms` milliseconds, false at their end; cheaper than a sleep that is cut short. */
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
 * Resolves when what lay readable in pipes and sockets has been read: on a busy host a timer fires before that. To be
 * called after a wait for output, before giving it up.
 */
export async function pendingReads(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/**
 * The result of `work`, or TIMEOUT naming `what` after `ms` milliseconds. The work itself is not stopped:
 * pass it a signal of its own where it can be.
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
