// Ids of boxes and commands that the user has shortened. The server knows only whole ids, so a shortened id is looked
// up in the list of ids, but only after the server has not found it. A name always wins over a shortened id.
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import type { BoxRunClient } from '../../sdk/index.ts';

/** Characters of a shortened id, without its kind. With fewer, a typing error would often hit a box. */
const prefixCharsMin = 3;

/**
 * Calls `work` with `box`. If there is no such box, and `box` is the beginning of exactly one id, calls it again with
 * that id. So `work` must do nothing before the server has found the box.
 * @throws BOX_NOT_FOUND; what `work` throws
 */
export async function withBox<T>(client: BoxRunClient, box: string, work: (box: string) => Promise<T>): Promise<T> {
  return again(box, 'BOX_NOT_FOUND', work, async () => (await client.listBoxes()).map(({ id }) => id));
}

/** The same for a command of `box`. @throws EXEC_NOT_FOUND, BOX_NOT_FOUND; what `work` throws */
export async function withExec<T>(
  client: BoxRunClient,
  box: string,
  exec: string,
  work: (box: string, exec: string) => Promise<T>,
): Promise<T> {
  return withBox(client, box, (foundBox) =>
    again(
      exec,
      'EXEC_NOT_FOUND',
      (found) => work(foundBox, found),
      async () => (await client.listExecs(foundBox)).map(({ id }) => id),
    ),
  );
}

async function again<T>(
  text: string,
  code: 'BOX_NOT_FOUND' | 'EXEC_NOT_FOUND',
  work: (id: string) => Promise<T>,
  list: () => Promise<readonly string[]>,
): Promise<T> {
  try {
    return await work(text);
  } catch (error) {
    const kind = code === 'BOX_NOT_FOUND' ? 'box_' : 'exec_';
    const beginning = text.startsWith(kind) ? text : kind + text;
    if (toBoxRunError(error).code !== code || beginning.length < kind.length + prefixCharsMin) throw error;
    const found = (await list()).filter((id) => id.startsWith(beginning));
    const [id] = found;
    if (id === undefined || id === text) throw error;
    if (found.length > 1) {
      throw new BoxRunError(code, `${text} is the beginning of ${found.length} ids: ${found.slice(0, 5).join(', ')}`);
    }
    return work(id);
  }
}
