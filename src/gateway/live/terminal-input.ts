// The input of a detachable terminal, from one client. When the worker of the box dies, the terminal goes on under the
// next worker. So this connects to that one, and the client's next bytes wait for it.
import { toBoxRunError, type ErrorCode } from '../../shared/errors.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { sleep } from '../../shared/waiting/clock.ts';
import { nextItem } from './worker-stream.ts';

const againMs = 200;
/** For so long no worker may take the input. Then the client gets the error, and may attach again. */
const patienceMs = 30_000;
/** Errors while the next worker takes the box over. */
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['UNAVAILABLE', 'BOX_NOT_RUNNING', 'EXEC_NOT_FOUND']);

export interface TerminalInput {
  /** The stream to the present worker, or to the next one. Null when the input has ended. */
  stream(): Promise<ByteStream | null>;
}

/**
 * Connects until `signal` aborts.
 * @param open opens a stream for the input of the terminal
 * @param onFailed gets the error that ends the input for good
 */
export function connectInput(
  open: () => Promise<ByteStream>,
  signal: AbortSignal,
  onFailed: (error: unknown) => void,
): TerminalInput {
  let present: ByteStream | null = null;
  let isOver = false;
  let waiting: ((stream: ByteStream | null) => void)[] = [];
  const tellWaiting = () => {
    for (const resolve of waiting) resolve(present);
    waiting = [];
  };

  /** Resolves when the stream to one worker has ended. The worker sends nothing on it but an error. */
  async function serve(): Promise<void> {
    const stream = await open();
    const onAbort = () => {
      stream.close();
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    present = stream;
    tellWaiting();
    try {
      await nextItem(stream);
    } finally {
      present = null;
      signal.removeEventListener('abort', onAbort);
    }
  }

  async function serveAll(): Promise<void> {
    let endedAt = performance.now();
    for (;;) {
      const openedAt = performance.now();
      const error = await serve().then(() => null, toBoxRunError);
      if (signal.aborted) return;
      if (error !== null && !passing.has(error.code)) throw error;
      // A worker that had the terminal for a while has died. One that does not have it yet refuses at once.
      if (performance.now() - openedAt > againMs) endedAt = performance.now();
      if (error !== null && performance.now() - endedAt > patienceMs) throw error;
      await sleep(againMs, signal);
    }
  }

  void serveAll()
    .catch(onFailed)
    .finally(() => {
      isOver = true;
      tellWaiting();
    });
  return {
    stream() {
      if (present !== null || isOver) return Promise.resolve(present);
      return new Promise((resolve) => {
        waiting.push(resolve);
      });
    },
  };
}
