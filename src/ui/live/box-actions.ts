// Starting, stopping and removing boxes, one or many: a few at a time, each result told, whatever becomes of the
// others. Asked by the pages, after their confirmation.
import type { Box } from '../../sdk/browser.ts';
import { boxrun, isCode } from './client.ts';
import { tell, tellError } from './notices.ts';
import { createStore, type Store } from './store.ts';

export type BoxAction = 'start' | 'stop' | 'remove';

interface Wording {
  readonly verb: string;
  readonly doing: string;
  readonly done: string;
  /** Which boxes it is for. */
  readonly fits: (box: Box) => boolean;
}

export const boxActions: Readonly<Record<BoxAction, Wording>> = {
  start: {
    verb: 'Start',
    doing: 'starting',
    done: 'started',
    fits: ({ status }) => status === 'stopped' || status === 'error',
  },
  stop: {
    verb: 'Stop',
    doing: 'stopping',
    done: 'stopped',
    fits: ({ status }) => status === 'running' || status === 'error',
  },
  remove: { verb: 'Remove', doing: 'removing', done: 'removed', fits: () => true },
};

/** Boxes under an action of this page, and what is being done to them. */
export const busyBoxes: Store<ReadonlyMap<string, string>> = createStore<ReadonlyMap<string, string>>(new Map());

const atOnce = 4;

export const boxTitle = ({ name, id }: Pick<Box, 'name' | 'id'>): string => name ?? id;

export async function actOnBoxes(action: BoxAction, boxes: readonly Box[]): Promise<void> {
  const waiting = [...boxes];
  let done = 0;
  setBusy(boxes, boxActions[action].doing);
  const work = async (): Promise<void> => {
    for (let box = waiting.shift(); box !== undefined; box = waiting.shift()) {
      try {
        await act(action, box.id);
        done++;
      } catch (error) {
        tellError(`${boxActions[action].verb} ${boxTitle(box)}`, error);
      } finally {
        setBusy([box], null);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  const [first] = boxes;
  if (done > 0 && first !== undefined)
    tell(`${boxes.length === 1 ? boxTitle(first) : `${done} boxes`} ${boxActions[action].done}`);
}

async function act(action: BoxAction, id: string): Promise<void> {
  try {
    if (action === 'start') await boxrun.startBox(id);
    else if (action === 'stop') await boxrun.stopBox(id);
    else await boxrun.removeBox(id, { force: true });
  } catch (error) {
    // Somebody else did it first.
    if (!(action === 'remove' && isCode(error, 'BOX_NOT_FOUND'))) throw error;
  }
}

function setBusy(boxes: readonly Box[], what: string | null): void {
  const next = new Map(busyBoxes.get());
  for (const { id } of boxes) {
    if (what === null) next.delete(id);
    else next.set(id, what);
  }
  busyBoxes.set(next);
}
