// How many workers, CPUs and how much memory boxes hold. Checked and reserved in one step; derived anew from the rows
// at each start. Asked by control.ts (create) and box.ts (start); box.ts gives back. What is refused has taken nothing.
import { BoxRunError } from '../../shared/errors.ts';

export interface Quota {
  /** @throws RESOURCE_EXCEEDED saying what is used, what was asked and which variable raises the limit */
  reserve(boxId: string, cpu: number, memoryMb: number): void;
  /** Counts a box that holds its share already, whatever the limit says now. */
  adopt(boxId: string, cpu: number, memoryMb: number): void;
  release(boxId: string): void;
  /** Workers that boxes leave for spare ones. */
  spareWorkersMax(): number;
}

export interface QuotaLimits {
  readonly cpu: number;
  readonly memoryMb: number;
  /** Null: no limit of their own. */
  readonly workers: number | null;
}

/** @param onRelease a box has given its share back */

export function createQuota(max: QuotaLimits, onRelease: () => void = () => undefined): Quota {
  const held = new Map<string, { readonly cpu: number; readonly memoryMb: number }>();

  /** By others than `boxId`: a box that holds its share already takes no second one. */
  function used(of: 'cpu' | 'memoryMb', boxId: string): number {
    let sum = 0;
    for (const [id, share] of held) if (id !== boxId) sum += share[of];
    return sum;
  }

  function refuse(what: string, asked: number, inUse: number, limit: number, raisedBy: string): never {
    throw new BoxRunError(
      'RESOURCE_EXCEEDED',
      `${what}: ${asked} asked, ${inUse} of ${limit} in use (${raisedBy} raises the limit)`,
      {
        hint: 'stop or remove a box, ask for less, or raise the limit of the server',
      },
    );
  }

  return {
    reserve(boxId, cpu, memoryMb) {
      const cpuUsed = used('cpu', boxId);
      const memoryUsed = used('memoryMb', boxId);
      if (cpuUsed + cpu > max.cpu) refuse('CPUs', cpu, cpuUsed, max.cpu, 'BOXRUN_MAX_CPU');
      if (memoryUsed + memoryMb > max.memoryMb) {
        refuse('memory in MB', memoryMb, memoryUsed, max.memoryMb, 'BOXRUN_MAX_MEMORY_MB');
      }
      const others = held.has(boxId) ? held.size - 1 : held.size;
      if (max.workers !== null && others >= max.workers) refuse('workers', 1, others, max.workers, '--workers MIN:MAX');
      held.set(boxId, { cpu, memoryMb });
    },
    adopt(boxId, cpu, memoryMb) {
      held.set(boxId, { cpu, memoryMb });
    },
    release(boxId) {
      if (held.delete(boxId)) onRelease();
    },
    spareWorkersMax: () => (max.workers === null ? Infinity : Math.max(0, max.workers - held.size)),
  };
}
