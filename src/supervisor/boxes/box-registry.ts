// Every box of this state directory by id and by name. A name is taken from the moment a create is accepted.
// Filled by control.ts and recovery.ts. One name never means two boxes.
import { BoxRunError } from '../../shared/errors.ts';
import { idBlocks } from '../../shared/host/id-ranges.ts';
import { holdsQuota } from '../../shared/lifecycle/box.ts';
import type { SupervisedBox } from './box.ts';

export interface BoxRegistry {
  /**
   * Before a box is made: there is room for one more. It stays taken until the box is deleted, or `releasePlace`.
   * @throws RESOURCE_EXCEEDED
   */
  claimPlace(boxId: string): void;
  releasePlace(boxId: string): void;
  /** A block of ids that no other box has, until the box is deleted or `releasePlace`. @throws RESOURCE_EXCEEDED */
  claimIdBlock(boxId: string): number;
  /** @throws BOX_NOT_FOUND */
  find(idOrName: string): SupervisedBox;
  all(): SupervisedBox[];
  /** True also while it is being admitted. */
  knows(boxId: string): boolean;
  /** @throws NAME_ALREADY_EXISTS */
  claimName(name: string, boxId: string): void;
  releaseName(name: string, boxId: string): void;
  /** Until it is released nobody knows whether its box is in the database: who asks for it is to come again. */
  doubtName(name: string, boxId: string): void;
  add(box: SupervisedBox): void;
  delete(box: SupervisedBox): void;
}

/**
 * @param boxesMax how many are made; there may be more of an earlier time
 * @param firstBlock where the search for a free block of ids begins
 */
export function createBoxRegistry(boxesMax: number, firstBlock = 0): BoxRegistry {
  const claimed = new Set<string>();
  const byId = new Map<string, SupervisedBox>();
  const idByName = new Map<string, string>();
  const doubtful = new Set<string>();
  const blockByBox = new Map<string, number>();

  function releaseName(name: string, boxId: string): void {
    if (idByName.get(name) !== boxId) return;
    idByName.delete(name);
    doubtful.delete(name);
  }

  return {
    claimPlace(boxId) {
      const count = byId.size + claimed.size;
      if (count >= boxesMax) {
        throw new BoxRunError(
          'RESOURCE_EXCEEDED',
          `there are ${count} boxes, of ${boxesMax} (BOXRUN_MAX_BOXES raises the limit)`,
          {
            hint: 'remove some: `boxrun gc` takes those that are stopped for long',
          },
        );
      }
      claimed.add(boxId);
    },
    releasePlace(boxId) {
      claimed.delete(boxId);
      blockByBox.delete(boxId);
    },
    claimIdBlock(boxId) {
      const taken = new Set(blockByBox.values());
      for (let step = 0; step < idBlocks; step++) {
        const block = (firstBlock + step) % idBlocks;
        if (taken.has(block)) continue;
        blockByBox.set(boxId, block);
        return block;
      }
      throw new BoxRunError('RESOURCE_EXCEEDED', `all ${idBlocks} ranges of ids are taken by boxes`, {
        hint: 'remove some',
      });
    },
    find(idOrName) {
      const box = byId.get(idOrName) ?? byId.get(idByName.get(idOrName) ?? '');
      if (box === undefined) throw new BoxRunError('BOX_NOT_FOUND', `there is no box '${idOrName}'`);
      return box;
    },
    all: () => [...byId.values()],
    knows: (boxId) => byId.has(boxId) || claimed.has(boxId),
    claimName(name, boxId) {
      const owner = idByName.get(name);
      if (doubtful.has(name)) {
        throw new BoxRunError('UNAVAILABLE', `a create of a box named '${name}' is being undone`, {
          hint: 'try again in a second',
        });
      }
      if (owner !== undefined && owner !== boxId) {
        throw new BoxRunError('NAME_ALREADY_EXISTS', `a box named '${name}' exists already (${owner})`, {
          hint: 'remove that box or choose another name',
        });
      }
      idByName.set(name, boxId);
    },
    releaseName,
    doubtName(name, boxId) {
      if (idByName.get(name) === boxId) doubtful.add(name);
    },
    add(box) {
      claimed.delete(box.id);
      byId.set(box.id, box);
      if (box.row.id_block !== null) blockByBox.set(box.id, box.row.id_block);
      if (box.row.name !== null) idByName.set(box.row.name, box.id);
    },
    delete(box) {
      byId.delete(box.id);
      blockByBox.delete(box.id);
      if (box.row.name !== null) releaseName(box.row.name, box.id);
    },
  };
}

/** What the quota counts as taken by these boxes. */
export function heldBy(boxes: readonly SupervisedBox[]): { readonly cpus: number; readonly memoryMb: number } {
  const holding = boxes.filter(({ state }) => holdsQuota(state)).map(({ row }) => row);
  return {
    cpus: holding.reduce((sum, { cpu }) => sum + cpu, 0),
    memoryMb: holding.reduce((sum, { memory_mb: mb }) => sum + mb, 0),
  };
}
