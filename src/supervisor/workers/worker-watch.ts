// Watches over a worker that was asked for something: one whose process does nothing any more is killed, and so is one
// that does not give up what was canceled. Whoever asked sees the end of its connection.
import { sleep } from '../../shared/waiting/clock.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { WorkerHandle } from './worker-handle.ts';

/** A request to a worker that is killed when its process does nothing any more. */
export async function askAwake(
  worker: WorkerHandle,
  method: 'stop' | 'remove',
  graceMs: number,
  log: Logger,
): Promise<void> {
  const answered = new AbortController();
  void killWhenSilent(worker, answered.signal, log);
  try {
    await worker.peer.request(method, { graceMs });
  } finally {
    answered.abort();
  }
}

/**
 * Once `signal` aborts, the worker has limits.cancelTimeoutMs to give up what it does. The function returned ends the
 * watch.
 */
export function killUnlessCanceled(worker: WorkerHandle, signal: AbortSignal, log: Logger): () => void {
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => void kill(worker, 'it does not give up what was canceled', log), limits.cancelTimeoutMs);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  return () => {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  };
}

async function killWhenSilent(worker: WorkerHandle, answered: AbortSignal, log: Logger): Promise<void> {
  let missed = 0;
  while (missed < limits.workerPulsesMissedMax) {
    await sleep(limits.workerPulseMs, answered);
    if (answered.aborted) return;
    missed = (await worker.greet()) === null ? missed + 1 : 0;
  }
  if (!answered.aborted) await kill(worker, 'it does not answer', log);
}

async function kill(worker: WorkerHandle, reason: string, log: Logger): Promise<void> {
  log.warn({ workerId: worker.workerId, reason }, 'a worker is killed');
  await worker.kill().catch((error: unknown) => {
    log.error({ err: error, workerId: worker.workerId }, 'a worker cannot be killed');
  });
}
