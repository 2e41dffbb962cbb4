// Watches a worker while it works on a request, and kills it when it hangs: when its process does not answer any more,
// or when it does not give up canceled work. The request then fails, because the connection has ended.
import { sleep } from '../../shared/waiting/clock.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { WorkerHandle } from './worker-handle.ts';

/**
 * Sends a request to the worker. Meanwhile the worker is greeted every limits.workerPulseMs, and it is killed when it
 * misses limits.workerPulsesMissedMax greetings in a row.
 * @param graceMs how long the processes of the box have to end by themselves, in milliseconds
 * @throws UNAVAILABLE when the worker is killed or lost; TIMEOUT as the worker's contract says; errors of the worker
 */
export async function requestOrKill(
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
 * Kills the worker if it still works limits.cancelTimeoutMs after `signal` has aborted.
 * @returns a function that ends this watch; the caller calls it when the work has ended
 */
export function killIfCancelHangs(worker: WorkerHandle, signal: AbortSignal, log: Logger): () => void {
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    timer = setTimeout(() => void kill(worker, 'it does not give up canceled work', log), limits.cancelTimeoutMs);
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
