// How many CPUs and how much memory boxes hold. Checked and reserved in one step; derived anew from the rows at each start.
// Asked by control.ts (create) and box.ts (start); box.ts gives back. What is refused has taken nothing.
import { BoxRunError } from '../shared/errors.ts';

export interface Quota {
  /** @throws RESOURCE_EXCEEDED saying what is used, what was asked and which variable raises the limit */
  reserve(boxId: string, cpu: number, memoryMb: number): void;
  /** Counts a box that holds its share already, whatever the limit says now. */
  adopt(boxId: string, cpu: number, memoryMb: number): void;
  release(boxId: string): void;
}

export function createQuota(max: { readonly cpu: number; readonly memoryMb: number }): Quota {
  const held = new Map<string, { readonly cpu: number; readonly memoryMb: number }>();

  /** By others than `boxId`: a box that holds its share already takes no second one. */
  function used(of: 'cpu' | 'memoryMb', boxId: string): number {
    let sum = 0;
    for (const [id, share] of held) if (id !== boxId) sum += share[of];
    return sum;
  }

  function refuse(what: string, asked: number, inUse: number, limit: number, variable: string): never {
    throw new BoxRunError('RESOURCE_EXCEEDED', `${what}: ${asked} asked, ${inUse} of ${limit} in use (${variable} raises the limit)`, {
      hint: 'stop or remove a box, ask for less, or raise the limit of the server',
    });
  }

  return {
    reserve(boxId, cpu, memoryMb) {
      const cpuUsed = used('cpu', boxId);
      const memoryUsed = used('memoryMb', boxId);
      if (cpuUsed + cpu > max.cpu) refuse('CPUs', cpu, cpuUsed, max.cpu, 'BOXRUN_MAX_CPU');
      if (memoryUsed + memoryMb > max.memoryMb) {
        refuse('memory in MB', memoryMb, memoryUsed, max.memoryMb, 'BOXRUN_MAX_MEMORY_MB');
      }
      held.set(boxId, { cpu, memoryMb });
    },
    adopt(boxId, cpu, memoryMb) {
      held.set(boxId, { cpu, memoryMb });
    },
    release(boxId) {
      held.delete(boxId);
    },
  };
}
