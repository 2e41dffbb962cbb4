// The way from a worker to the writer: changes in order, one batch under way at a time, sent again until acknowledged. Rows of commands that
// have only begun wait a little for what comes next. A worker keeps what is not acknowledged; at the bound its commands' pipes are no longer read.
import type { ExecChange, WriterContract } from '../shared/contracts/writer.ts';
import { toBoxRunError, type BoxRunError } from '../shared/errors.ts';
import { faultPoint } from '../shared/fault.ts';
import type { Link } from '../shared/ipc/link.ts';
import { limits } from '../shared/limits.ts';
import { sleep } from '../shared/clock.ts';

export interface CommitQueue {
  push(change: ExecChange): void;
  /** Resolves when everything pushed so far is committed. */
  committed(): Promise<void>;
  /** True while what is not acknowledged is below the bound. */
  readonly hasRoom: boolean;
  /** Resolves when there is room for more output. */
  room(): Promise<void>;
  /** Bytes that are not acknowledged, and how often somebody had to wait for room. */
  readonly figures: { readonly bytes: number; readonly pauses: number };
  /** What is not acknowledged, in order. */
  unacknowledged(): readonly ExecChange[];
}

export interface CommitQueueOptions {
  readonly link: Pick<Link<WriterContract>, 'request' | 'ready'>;
  /** The writer refused for good: another worker has the box, or it is gone. Called once; nothing is sent any more. */
  readonly onRefused: (error: BoxRunError) => void;
}

interface Waiter {
  readonly until: () => boolean;
  readonly resolve: () => void;
}

function sizeOf(change: ExecChange): number {
  if (change.op === 'event') return change.event.data.length + 100;
  return change.op === 'insert' ? JSON.stringify(change.exec).length + 100 : 500;
}

function isUrgent({ op }: ExecChange): boolean {
  return op !== 'insert';
}

/** The exit event and the finished row belong into one transaction. */
function isExitEvent(change: ExecChange | undefined): boolean {
  return change?.op === 'event' && change.event.type === 'exit';
}

function createWaiters() {
  let waiters: Waiter[] = [];
  return {
    wake(): void {
      const due = waiters.filter((waiter) => waiter.until());
      if (due.length === 0) return;
      waiters = waiters.filter((waiter) => !due.includes(waiter));
      for (const waiter of due) waiter.resolve();
    },
    waitUntil(until: () => boolean): Promise<void> {
      if (until()) return Promise.resolve();
      return new Promise((resolve) => {
        waiters.push({ until, resolve });
      });
    },
  };
}

export function createCommitQueue({ link, onRefused }: CommitQueueOptions): CommitQueue {
  let queue: ExecChange[] = [];
  let queuedBytes = 0;
  let pauses = 0;
  let pushedCount = 0;
  let committedCount = 0;
  let sending = false;
  let refused = false;
  /** Those in the queue that do not wait for others. */
  let urgentCount = 0;
  let rowTimer: NodeJS.Timeout | undefined;
  const waiters = createWaiters();

  const hasRoom = () => queuedBytes < limits.unackedBytesMax;

  function nextBatch(): ExecChange[] {
    let bytes = 0;
    let count = 0;
    while (count < queue.length && count < limits.commitOpsMax && bytes < limits.commitBytesMax) {
      bytes += sizeOf(queue[count++] as ExecChange);
    }
    if (isExitEvent(queue[count - 1])) count++;
    return queue.slice(0, count);
  }

  async function sendAll(): Promise<void> {
    let pauseMs: number = limits.reconnectFirstMs;
    while (!refused) {
      const batch = nextBatch();
      try {
        faultPoint('worker.output.sending');
        await link.request('changeExecs', { changes: batch }, { resend: true });
      } catch (error) {
        const known = toBoxRunError(error);
        if (known.code !== 'UNAVAILABLE' && known.code !== 'TIMEOUT') {
          refused = true;
          onRefused(known);
          break;
        }
        await sleep(pauseMs);
        pauseMs = Math.min(pauseMs * 2, limits.reconnectLongestMs);
        continue;
      }
      faultPoint('worker.output.acknowledged');
      pauseMs = limits.reconnectFirstMs;
      queue = queue.slice(batch.length);
      committedCount += batch.length;
      for (const change of batch) {
        queuedBytes -= sizeOf(change);
        if (isUrgent(change)) urgentCount--;
      }
      waiters.wake();
      if (urgentCount === 0) break;
    }
    sending = false;
    if (queue.length > 0) schedule();
  }

  function schedule(): void {
    if (sending || refused) return;
    if (urgentCount === 0) {
      rowTimer ??= setTimeout(begin, limits.execRowDelayMs);
      return;
    }
    begin();
  }

  function begin(): void {
    clearTimeout(rowTimer);
    rowTimer = undefined;
    if (sending) return;
    sending = true;
    setImmediate(() => void sendAll()); // What the same turn of the event loop adds goes along.
  }

  return {
    push(change) {
      queue.push(change);
      queuedBytes += sizeOf(change);
      pushedCount++;
      if (isUrgent(change)) urgentCount++;
      schedule();
    },
    committed() {
      const goal = pushedCount;
      return waiters.waitUntil(() => committedCount >= goal);
    },
    get hasRoom() {
      return hasRoom();
    },
    room() {
      if (!hasRoom()) pauses++;
      return waiters.waitUntil(hasRoom);
    },
    get figures() {
      return { bytes: queuedBytes, pauses };
    },
    unacknowledged: () => queue,
  };
}
