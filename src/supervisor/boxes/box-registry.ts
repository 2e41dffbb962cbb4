// Every box of this state directory, by id and by name, and the places, names and id ranges that boxes have claimed.
// A name never stands for two boxes: it is taken from the moment when the supervisor accepts a create.
import { BoxRunError } from '../../shared/errors.ts';
import { idBlocks } from '../../shared/host/id-ranges.ts';
import { holdsQuota } from '../../shared/lifecycle/box.ts';
import type { SupervisedBox } from './box.ts';

export interface BoxRegistry {
  /**
   * Takes one of the places for boxes, before a box is created. It stays taken until `delete` or `releasePlace`.
   * @throws RESOURCE_EXCEEDED when all places are taken
   */
  claimPlace(boxId: string): void;
  /** Also gives back the id range of the box. */
  releasePlace(boxId: string): void;
  /**
   * A range of user and group ids of the host that no other box has. It stays taken until `delete` or `releasePlace`.
   * @throws RESOURCE_EXCEEDED when all ranges are taken
   */
  claimIdBlock(boxId: string): number;
  /** @throws BOX_NOT_FOUND */
  find(idOrName: string): SupervisedBox;
  all(): SupervisedBox[];
  /** True also for a box that has its place, but is not in the database yet. */
  knows(boxId: string): boolean;
  /** @throws NAME_ALREADY_EXISTS; UNAVAILABLE while it is uncertain whether the name is taken */
  claimName(name: string, boxId: string): void;
  releaseName(name: string, boxId: string): void;
  /**
   * Says that the box of this name may or may not be in the database. Until the name is released, `claimName` throws
   * UNAVAILABLE, so that clients try again.
   */
  markNameUncertain(name: string, boxId: string): void;
  add(box: SupervisedBox): void;
  delete(box: SupervisedBox): void;
}

/**
 * @param boxesMax how many boxes there may be before the next create is refused. If this setting was higher earlier,
 *   there may be more boxes
 * @param firstBlock where the search for a free id range begins
 */
export function createBoxRegistry(boxesMax: number, firstBlock = 0): BoxRegistry {
  const claimed = new Set<string>();
  const byId = new Map<string, SupervisedBox>();
  const idByName = new Map<string, string>();
  const uncertain = new Set<string>();
  const blockByBox = new Map<string, number>();

  function releaseName(name: string, boxId: string): void {
    if (idByName.get(name) !== boxId) return;
    idByName.delete(name);
    uncertain.delete(name);
  }

  return {
    claimPlace(boxId) {
      const count = byId.size + claimed.size;
      if (count >= boxesMax) {
        throw new BoxRunError(
          'RESOURCE_EXCEEDED',
          `there are ${count} boxes, of ${boxesMax} (BOXRUN_MAX_BOXES raises the limit)`,
          {
            hint: 'remove some: `boxrun gc` removes boxes that have been stopped for a long time',
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
      if (uncertain.has(name)) {
        throw new BoxRunError('UNAVAILABLE', `it is not certain yet whether a box is named '${name}'`, {
          hint: 'try again in a second',
        });
      }
      if (owner !== undefined && owner !== boxId) {
        throw new BoxRunError('NAME_ALREADY_EXISTS', `a box named '${name}' exists already (${owner})`, {
          hint: `choose another name, or remove that box: boxrun rm -f ${name}`,
        });
      }
      idByName.set(name, boxId);
    },
    releaseName,
    markNameUncertain(name, boxId) {
      if (idByName.get(name) === boxId) uncertain.add(name);
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

/** The CPUs and the memory that the quota counts for these boxes. */
export function heldBy(boxes: readonly SupervisedBox[]): { readonly cpus: number; readonly memoryMb: number } {
  const holding = boxes.filter(({ state }) => holdsQuota(state)).map(({ row }) => row);
  return {
    cpus: holding.reduce((sum, { cpu }) => sum + cpu, 0),
    memoryMb: holding.reduce((sum, { memory_mb: mb }) => sum + mb, 0),
  };
}
