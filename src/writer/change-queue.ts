// The queue of changes that wait for the group commit. It decides which changes form the next group: the oldest ones
// first, except that large output may wait. So one command with much output cannot delay the other boxes.
import { limits } from '../shared/limits.ts';

export interface ChangeTraits {
  readonly operations?: number;
  readonly bytes?: number;
  /**
   * The change contains only output of a command. Clients wait for the start and the end of a command, not for output.
   */
  readonly isOutput?: boolean;
  /** The id of the box that the change comes from. */
  readonly sender?: string;
}

export interface WaitingChange {
  readonly apply: () => unknown;
  readonly operations: number;
  readonly isLarge: boolean;
  /** A client waits for the commit of this change. */
  readonly isAwaited: boolean;
  readonly sender: string | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

interface Awaited {
  readonly sender: string | undefined;
  readonly at: number;
}

/** How many of the waiting changes fit into the next group. */
function groupLength(waiting: readonly WaitingChange[]): number {
  let operations = 0;
  let count = 0;
  while (count < waiting.length && operations < limits.groupOpsMax) operations += waiting[count++]?.operations ?? 0;
  return count;
}

/**
 * Large changes are output, which can wait. Small changes are short output and everything else; a client may wait for
 * them. Two rules follow:
 *
 * 1. If small and large changes wait, one group of small ones goes first. The next group may contain the large ones.
 * 2. After the writer has committed large output, it pauses further large changes for limits.largeChangeRestFactor
 *    times the duration of that commit, if another box has waited for a commit recently.
 *
 * A large change may be overtaken by later small changes. That is safe: a sender does not send a change whose order
 * matters while its large change is under way.
 */
export function createChangeQueue() {
  let queue: WaitingChange[] = [];
  let smallOnesWentFirst = false;
  let pausedUntil = 0;
  let lastAwaited: Awaited = { sender: undefined, at: -Infinity };
  let lastOfAnother = lastAwaited;

  function noteAwaited({ sender }: WaitingChange): void {
    if (sender !== lastAwaited.sender) lastOfAnother = lastAwaited;
    lastAwaited = { sender, at: performance.now() };
  }

  /**
   * The last time at which a sender added a change that a client waits for. A sender does not count if all of `changes`
   * are its own.
   */
  function othersWaitedAt(changes: readonly WaitingChange[]): number {
    return changes.every(({ sender }) => sender === lastAwaited.sender) ? lastOfAnother.at : lastAwaited.at;
  }

  return {
    get length() {
      return queue.length;
    },
    add(change: WaitingChange): void {
      queue.push(change);
      if (change.isAwaited) noteAwaited(change);
    },
    /** How many milliseconds to wait before `takeGroup`. 0 when a small change waits. */
    pauseMs(): number {
      return queue.some(({ isLarge }) => !isLarge) ? 0 : Math.max(0, pausedUntil - performance.now());
    },
    /** Takes the changes of the next group out of the queue. */
    takeGroup(): WaitingChange[] {
      const small = queue.filter(({ isLarge }) => !isLarge);
      const isMixed = small.length > 0 && small.length < queue.length;
      const onlySmall = isMixed && (!smallOnesWentFirst || performance.now() < pausedUntil);
      smallOnesWentFirst = onlySmall;
      const candidates = onlySmall ? small : queue;
      const group = candidates.slice(0, groupLength(candidates));
      const taken = new Set(group);
      queue = queue.filter((change) => !taken.has(change));
      return group;
    },
    /**
     * Must be called after each group, because it sets the pause.
     * @param commitMs how long the commit took, in milliseconds
     */
    noteCommit(group: readonly WaitingChange[], commitMs: number): void {
      const large = group.filter(({ isLarge }) => isLarge);
      if (large.length === 0) return;
      const now = performance.now();
      if (now - othersWaitedAt(large) < limits.largeChangeYieldMs)
        pausedUntil = now + Math.min(limits.largeChangeRestFactor * commitMs, limits.largeChangeRestMaxMs);
    },
  };
}
