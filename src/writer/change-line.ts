// Changes that wait for the group commit, and which of them go next: first come, first served, but for large ones, which are output
// that has time. Used by batch.ts.
import { limits } from '../shared/limits.ts';

export interface ChangeSize {
  readonly operations?: number;
  readonly bytes?: number;
}

export interface Unit {
  readonly apply: () => unknown;
  readonly operations: number;
  readonly isLarge: boolean;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** How many of those that wait go into the next group. */
function groupLength(waiting: readonly Unit[]): number {
  let operations = 0;
  let count = 0;
  while (count < waiting.length && operations < limits.groupOpsMax) operations += waiting[count++]?.operations ?? 0;
  return count;
}

/**
 * What waits, in groups. Somebody waits for a small change; a large one is output that has time. So it lets the small ones that are there
 * go first, once; and while small ones keep coming, large ones rest after each group for as long as it took, so that one loud
 * command does not have the disk and a processor for itself. Two changes of one sender whose order matters are never under way
 * together when one of them is large.
 */
export function createChangeLine() {
  let line: Unit[] = [];
  let hasLetPass = false;
  let restUntil = 0;
  let lastSmallAt = -Infinity;
  return {
    get length() {
      return line.length;
    },
    add(unit: Unit): void {
      line.push(unit);
      if (!unit.isLarge) lastSmallAt = performance.now();
    },
    /** How long until a group can be taken. */
    waitMs(): number {
      return line.some(({ isLarge }) => !isLarge) ? 0 : Math.max(0, restUntil - performance.now());
    },
    takeGroup(): Unit[] {
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
    took(group: readonly Unit[], ms: number): void {
      const now = performance.now();
      const isShared = now - lastSmallAt < limits.largeChangeYieldMs;
      if (isShared && group.some(({ isLarge }) => isLarge)) restUntil = now + Math.min(ms, limits.largeChangeRestMaxMs);
    },
  };
}
