// Changes that wait for the group commit, and which of them go next: first come, first served, but for large ones,
// which are output that has time. Used by batch.ts.
import { limits } from '../shared/limits.ts';

export interface ChangeTraits {
  readonly operations?: number;
  readonly bytes?: number;
  /** Nothing but what a command prints: nobody waits for that as for the begin and the end of one. */
  readonly isOutput?: boolean;
  /** Whose change it is: the box's id. */
  readonly sender?: string;
}

export interface WaitingChange {
  readonly apply: () => unknown;
  readonly operations: number;
  readonly isLarge: boolean;
  readonly isAwaited: boolean;
  readonly sender: string | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

interface Awaited {
  readonly sender: string | undefined;
  readonly at: number;
}

/** How many of those that wait go into the next group. */
function groupLength(waiting: readonly WaitingChange[]): number {
  let operations = 0;
  let count = 0;
  while (count < waiting.length && operations < limits.groupOpsMax) operations += waiting[count++]?.operations ?? 0;
  return count;
}

/**
 * What waits, in groups. Somebody waits for a small change; a large one is output that has time. So it lets the small
 * ones that are there go first, once; and while awaited ones of other senders keep coming, large ones rest after each
 * group for some times as long as it took, so that one loud command does not have the disk and a processor for itself.
 * Two changes of one sender whose order matters are never under way together when one of them is large.
 */
export function createChangeQueue() {
  let line: WaitingChange[] = [];
  let hasLetPass = false;
  let restUntil = 0;
  let lastAwaited: Awaited = { sender: undefined, at: -Infinity };
  let lastOfAnother = lastAwaited;

  function noteAwaited({ sender }: WaitingChange): void {
    if (sender !== lastAwaited.sender) lastOfAnother = lastAwaited;
    lastAwaited = { sender, at: performance.now() };
  }

  /** When somebody else than the sender of these last waited for a change. */
  function othersWaitedAt(units: readonly WaitingChange[]): number {
    return units.every(({ sender }) => sender === lastAwaited.sender) ? lastOfAnother.at : lastAwaited.at;
  }

  return {
    get length() {
      return line.length;
    },
    add(unit: WaitingChange): void {
      line.push(unit);
      if (unit.isAwaited) noteAwaited(unit);
    },
    /** How long until a group can be taken. */
    waitMs(): number {
      return line.some(({ isLarge }) => !isLarge) ? 0 : Math.max(0, restUntil - performance.now());
    },
    takeGroup(): WaitingChange[] {
      const small = line.filter(({ isLarge }) => !isLarge);
      const isMixed = small.length > 0 && small.length < line.length;
      const letsPass = isMixed && (!hasLetPass || performance.now() < restUntil);
      hasLetPass = letsPass;
      const candidates = letsPass ? small : line;
      const group = candidates.slice(0, groupLength(candidates));
      const taken = new Set(group);
      line = line.filter((unit) => !taken.has(unit));
      return group;
    },
    took(group: readonly WaitingChange[], ms: number): void {
      const large = group.filter(({ isLarge }) => isLarge);
      if (large.length === 0) return;
      const now = performance.now();
      if (now - othersWaitedAt(large) < limits.largeChangeYieldMs)
        restUntil = now + Math.min(limits.largeChangeRestFactor * ms, limits.largeChangeRestMaxMs);
    },
  };
}
