// The way from a worker to the writer: changes in order, one batch under way at a time, sent again until acknowledged.
// Rows of commands that have only begun wait a little for what comes next. A worker keeps what is not acknowledged; at
// the bound its commands' pipes are no longer read.
import type { ExecChange, WriterContract } from '../../shared/contracts/writer.ts';
import { toBoxRunError, type BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { limits } from '../../shared/limits.ts';
import { sleep } from '../../shared/waiting/clock.ts';

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

/** What is not acknowledged, in order, and how much that is. */
function createBacklog() {
  let changes: ExecChange[] = [];
  let bytes = 0;
  let urgentCount = 0;
  return {
    get changes(): readonly ExecChange[] {
      return changes;
    },
    get bytes() {
      return bytes;
    },
    /** Whether anything of it is not to wait for more. */
    get isUrgent() {
      return urgentCount > 0;
    },
    add(change: ExecChange): void {
      changes.push(change);
      bytes += sizeOf(change);
      if (isUrgent(change)) urgentCount++;
    },
    nextBatch(): ExecChange[] {
      let batchBytes = 0;
      let count = 0;
      while (count < changes.length && count < limits.commitOpsMax && batchBytes < limits.commitBytesMax) {
        batchBytes += sizeOf(changes[count++] as ExecChange);
      }
      if (isExitEvent(changes[count - 1])) count++;
      return changes.slice(0, count);
    },
    /** Takes a batch off. */
    drop(batch: readonly ExecChange[]): void {
      changes = changes.slice(batch.length);
      for (const change of batch) {
        bytes -= sizeOf(change);
        if (isUrgent(change)) urgentCount--;
      }
    },
  };
}

export function createCommitQueue({ link, onRefused }: CommitQueueOptions): CommitQueue {
  const backlog = createBacklog();
  let pauses = 0;
  let pushedCount = 0;
  let committedCount = 0;
  let sending = false;
  let refused = false;
  let rowTimer: NodeJS.Timeout | undefined;
  const waiters = createWaiters();

  const hasRoom = () => backlog.bytes < limits.unackedBytesMax;

  /** Sends as long as there is anything that is not to wait. */
  async function sendAll(): Promise<void> {
    let pauseMs: number = limits.reconnectFirstMs;
    do {
      const batch = backlog.nextBatch();
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
        continue; // What is sent again may be a row alone; it goes with whatever has come since.
      }
      faultPoint('worker.output.acknowledged');
      pauseMs = limits.reconnectFirstMs;
      backlog.drop(batch);
      committedCount += batch.length;
      waiters.wake();
    } while (backlog.isUrgent);
    sending = false;
    schedule();
  }

  function schedule(): void {
    if (sending || refused || backlog.changes.length === 0) return;
    if (backlog.isUrgent) begin();
    else rowTimer ??= setTimeout(begin, limits.execRowDelayMs);
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
      backlog.add(change);
      pushedCount++;
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
      return { bytes: backlog.bytes, pauses };
    },
    unacknowledged: () => backlog.changes,
  };
}
