// Lists a directory of a box, or one file of it, for `boxrun ls BOX:PATH`.
// It only reads.
import type { BoxRunClient, FileEntry } from '../../sdk/index.ts';
import { UsageError } from '../parsing/options.ts';
import { printList, type ListForm } from '../render/list-output.ts';
import { renderAge, renderTable } from '../render/render.ts';
import { withBox } from '../server/id-prefixes.ts';
import { parseBoxPath } from './copy-paths.ts';

const letters: Readonly<Record<FileEntry['type'], string>> = {
  file: '-',
  directory: 'd',
  link: 'l',
  fifo: 'p',
  socket: 's',
  character_device: 'c',
  block_device: 'b',
};

/**
 * @param path BOX:PATH, as the user has typed it
 * @throws UsageError for another text; FILE_NOT_FOUND, RUNTIME_ERROR, the errors of the API
 */
export async function listFiles(
  client: BoxRunClient,
  path: string,
  form: ListForm,
  widthMax: number | undefined,
): Promise<void> {
  const now = Date.now();
  const at = parseBoxPath(path);
  if (at === null) throw new UsageError(`ls takes BOX:PATH, as in: boxrun ls ${path}:/`);
  const entries = await withBox(client, at.box, async (box) => {
    const found = await client.files(box).stat(at.path);
    return found.type === 'directory' ? client.files(box).list(at.path) : [found];
  });
  printList(entries, form, {
    idOf: ({ name }) => name,
    table: () =>
      renderTable(
        ['MODE', 'UID', 'GID', 'SIZE', 'CHANGED', 'NAME'],
        entries.map((entry) => [
          `${letters[entry.type]}${entry.mode}`,
          String(entry.uid),
          String(entry.gid),
          String(entry.size),
          renderAge(entry.modified_at, now),
          entry.target === undefined ? entry.name : `${entry.name} -> ${entry.target}`,
        ]),
        widthMax === undefined ? {} : { widthMax },
      ),
  });
}
