// Every box of this state directory by id and by name. A name is taken from the moment a create is accepted.
// Filled by control.ts and recovery.ts. One name never means two boxes.
import { BoxRunError } from '../shared/errors.ts';
import type { SupervisedBox } from './box.ts';

export interface BoxRegistry {
  /** @throws BOX_NOT_FOUND */
  find(idOrName: string): SupervisedBox;
  all(): SupervisedBox[];
  /** @throws NAME_ALREADY_EXISTS */
  claimName(name: string, boxId: string): void;
  releaseName(name: string, boxId: string): void;
  /** Until it is released nobody knows whether its box is in the database: who asks for it is to come again. */
  doubtName(name: string, boxId: string): void;
  add(box: SupervisedBox): void;
  delete(box: SupervisedBox): void;
}

export function createBoxRegistry(): BoxRegistry {
  const byId = new Map<string, SupervisedBox>();
  const idByName = new Map<string, string>();
  const doubtful = new Set<string>();

  function releaseName(name: string, boxId: string): void {
    if (idByName.get(name) !== boxId) return;
    idByName.delete(name);
    doubtful.delete(name);
  }

  return {
    find(idOrName) {
      const box = byId.get(idOrName) ?? byId.get(idByName.get(idOrName) ?? '');
      if (box === undefined) throw new BoxRunError('BOX_NOT_FOUND', `there is no box '${idOrName}'`);
      return box;
    },
    all: () => [...byId.values()],
    claimName(name, boxId) {
      const owner = idByName.get(name);
      if (doubtful.has(name)) {
        throw new BoxRunError('UNAVAILABLE', `a create of a box named '${name}' is being undone`, { hint: 'try again in a second' });
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
      byId.set(box.id, box);
      if (box.row.name !== null) idByName.set(box.row.name, box.id);
    },
    delete(box) {
      byId.delete(box.id);
      if (box.row.name !== null) releaseName(box.row.name, box.id);
    },
  };
}
