// Starts, stops and removes boxes, one or many, a few at the same time.
// A failure of one box does not stop the others, and each failure is shown as a notice.
import type { Box } from '../../sdk/browser.ts';
import { boxrun, isCode } from './client.ts';
import { showError, showNotice } from './notices.ts';
import { createStore, type Store } from './store.ts';

export type BoxAction = 'start' | 'stop' | 'remove';

interface Wording {
  readonly verb: string;
  readonly doing: string;
  readonly done: string;
  /** True if the action is possible for this box. */
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

/** By the id of the box: the action of this page that runs now, such as `stopping`. */
export const busyBoxes: Store<ReadonlyMap<string, string>> = createStore<ReadonlyMap<string, string>>(new Map());

/** How many boxes are changed at the same time. */
const parallelMax = 4;

export const boxTitle = ({ name, id }: Pick<Box, 'name' | 'id'>): string => name ?? id;

export async function actOnBoxes(action: BoxAction, boxes: readonly Box[]): Promise<void> {
  const queue = [...boxes];
  let done = 0;
  setBusy(boxes, boxActions[action].doing);
  const work = async (): Promise<void> => {
    for (let box = queue.shift(); box !== undefined; box = queue.shift()) {
      try {
        await act(action, box.id);
        done++;
      } catch (error) {
        showError(`${boxActions[action].verb} ${boxTitle(box)}`, error);
      } finally {
        setBusy([box], null);
      }
    }
  };
  await Promise.all(Array.from({ length: parallelMax }, work));
  const [first] = boxes;
  if (done > 0 && first !== undefined)
    showNotice(`${boxes.length === 1 ? boxTitle(first) : `${done} boxes`} ${boxActions[action].done}`);
}

async function act(action: BoxAction, id: string): Promise<void> {
  try {
    if (action === 'start') await boxrun.startBox(id);
    else if (action === 'stop') await boxrun.stopBox(id);
    else await boxrun.removeBox(id, { force: true });
  } catch (error) {
    // Another client has removed the box already.
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
