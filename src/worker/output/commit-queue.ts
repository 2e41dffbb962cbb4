// The queue of changes from this worker to the writer. It sends them in order, one batch at a time, and sends a batch
// again until the writer acknowledges it. It keeps all changes that are not acknowledged. At limits.unackedBytesMax of
// them, it tells the readers of output to wait.
import type { ExecChange, WriterContract } from '../../shared/contracts/writer.ts';
import { toBoxRunError, type BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { limits } from '../../shared/limits.ts';
import { sleep } from '../../shared/waiting/clock.ts';

export interface CommitQueue {
  /**
   * Adds a change, and sends it soon. The row of a command that has just begun waits limits.execRowDelayMs at most.
   * @param onCommitted called once, when the writer has acknowledged the change
   */
  push(change: ExecChange, onCommitted?: () => void): void;
  /** Resolves when everything pushed so far is committed. */
  committed(): Promise<void>;
  /** True while the changes that are not acknowledged have less than limits.unackedBytesMax bytes. */
  readonly hasRoom: boolean;
  /** Resolves when there is room for more output. */
  room(): Promise<void>;
  /** Bytes that are not acknowledged, and how often a reader of output had to wait for room. */
  readonly figures: { readonly bytes: number; readonly pauses: number };
  /** The changes that are not acknowledged, in order. */
  unacknowledged(): readonly ExecChange[];
}

export interface CommitQueueOptions {
  readonly link: Pick<Link<WriterContract>, 'request' | 'ready'>;
  /**
   * The writer refuses all changes from now on: another worker has the box, or the box is removed. Called once. The
   * queue sends nothing after that.
   */
  readonly onRefused: (error: BoxRunError) => void;
}

interface Waiter {
  readonly isDue: () => boolean;
  readonly resolve: () => void;
}

function sizeOf(change: ExecChange): number {
  if (change.op === 'event') return change.event.data.length + 100;
  return change.op === 'insert' ? JSON.stringify(change.exec).length + 100 : 500;
}

/**
 * Every change is sent at once, except the row of a new command: the command may be short, and then all goes together.
 */
function isUrgent({ op }: ExecChange): boolean {
  return op !== 'insert';
}

/**
 * The exit event and the finished row that follows it must be in one transaction, so a batch never ends between them.
 */
function isExitEvent(change: ExecChange | undefined): boolean {
  return change?.op === 'event' && change.event.type === 'exit';
}

function createWaiters() {
  let waiters: Waiter[] = [];
  return {
    wake(): void {
      const due = waiters.filter((waiter) => waiter.isDue());
      if (due.length === 0) return;
      waiters = waiters.filter((waiter) => !due.includes(waiter));
      for (const waiter of due) waiter.resolve();
    },
    waitUntil(isDue: () => boolean): Promise<void> {
      if (isDue()) return Promise.resolve();
      return new Promise((resolve) => {
        waiters.push({ isDue, resolve });
      });
    },
  };
}

/** The changes that are not acknowledged, in order, and their size. */
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
    /** True when at least one change must be sent at once. */
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
    /** Removes a batch from the front. */
    remove(batch: readonly ExecChange[]): void {
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
  const callbacks = new Map<ExecChange, () => void>();

  const hasRoom = () => backlog.bytes < limits.unackedBytesMax;

  /** Sends batch after batch while there are urgent changes. */
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
        continue; // The next batch begins with the same changes. It also has the changes that were added meanwhile.
      }
      faultPoint('worker.output.acknowledged');
      pauseMs = limits.reconnectFirstMs;
      backlog.remove(batch);
      committedCount += batch.length;
      for (const change of batch) callbacks.get(change)?.();
      for (const change of batch) callbacks.delete(change);
      waiters.wake();
    } while (backlog.isUrgent);
    sending = false;
    schedule();
  }

  function schedule(): void {
    if (sending || refused || backlog.changes.length === 0) return;
    if (backlog.isUrgent) beginSending();
    else rowTimer ??= setTimeout(beginSending, limits.execRowDelayMs);
  }

  function beginSending(): void {
    clearTimeout(rowTimer);
    rowTimer = undefined;
    if (sending) return;
    sending = true;
    setImmediate(() => void sendAll()); // So the batch has all changes of this turn of the event loop.
  }

  return {
    push(change, onCommitted) {
      backlog.add(change);
      if (onCommitted !== undefined) callbacks.set(change, onCommitted);
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
