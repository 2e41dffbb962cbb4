// The CPUs, the memory and the workers that boxes hold, and their limits. A request is checked and reserved in one
// step, and a refused request reserves nothing. After a restart the supervisor derives everything again from the rows.
import { BoxRunError } from '../../shared/errors.ts';

export interface Quota {
  /**
   * Reserves a share for the box. If the box already has a share, this one replaces it.
   * @throws RESOURCE_EXCEEDED, with what is in use, what was requested, and the variable that raises the limit
   */
  reserve(boxId: string, cpu: number, memoryMb: number): void;
  /** Counts a box that already holds its share, even above the limit. */
  adopt(boxId: string, cpu: number, memoryMb: number): void;
  release(boxId: string): void;
  /** How many workers may be spare: the limit of workers minus the workers of boxes. */
  spareWorkersMax(): number;
}

export interface QuotaLimits {
  readonly cpu: number;
  readonly memoryMb: number;
  /** Null: no limit. */
  readonly workers: number | null;
}

/** @param onRelease called when a box has given back its share */
export function createQuota(max: QuotaLimits, onRelease: () => void = () => undefined): Quota {
  const held = new Map<string, { readonly cpu: number; readonly memoryMb: number }>();

  /** What all boxes except `boxId` hold. */
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
