// Parts of requests: the paths of boxes and commands, the header for requests that may be repeated, and signals. Names
// are encoded in paths, so no name leads to another path.
import type { CallOptions } from './options.ts';

/** @param box an id or a name */
export function boxPath(box: string): string {
  return `/v1/boxes/${encodeURIComponent(box)}`;
}

export function execPath(box: string, execId: string): string {
  return `${boxPath(box)}/exec/${encodeURIComponent(execId)}`;
}

export function keyHeader(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { 'idempotency-key': key };
}

export function graceBody(graceS: number | undefined): { grace_s: number } | undefined {
  return graceS === undefined ? undefined : { grace_s: graceS };
}

export function signalOf({ signal }: CallOptions): CallOptions {
  return signal === undefined ? {} : { signal };
}

/** Gives a signal that aborts `delayMs` after the given one, or at once if that one has aborted already. */
export function abortsLater({ signal }: CallOptions, delayMs: number): CallOptions {
  if (signal === undefined || signal.aborted) return signalOf({ signal });
  const later = new AbortController();
  const abortLater = () => {
    const timer: unknown = setTimeout(() => {
      later.abort(signal.reason);
    }, delayMs);
    (timer as { unref?: () => void }).unref?.(); // Only Node has it: the timer must not keep the program alive.
  };
  signal.addEventListener('abort', abortLater, { once: true });
  return { signal: later.signal };
}
