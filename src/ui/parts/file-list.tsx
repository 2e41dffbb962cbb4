// The files of one directory of a box: a table that follows what happens in the box. A directory opens in the table, a
// file is downloaded. Links are shown with their targets.
import { useEffect, useState } from 'preact/hooks';
import type { Box, FileEntry } from '../../sdk/browser.ts';
import { boxrun } from '../live/client.ts';
import { Button, ErrorNote, LoadingNote } from './basics.tsx';
import { formatAge, formatBytes } from './format.ts';

const rowsMax = 1_000;
/** Changes come in bursts. The list is read again this long after the first one of them, in milliseconds. */
const settleMs = 250;

interface FileListProps {
  readonly box: Box;
  readonly directory: string;
  readonly onOpen: (directory: string) => void;
  readonly onDownload: (path: string) => void;
  readonly onRemove: (path: string) => void;
}

export function FileList({ box, directory, onOpen, onDownload, onRemove }: FileListProps) {
  const { entries, error } = useDirectory(box.id, directory);
  if (error !== null) return <ErrorNote error={error} />;
  if (entries === null) return <LoadingNote what="files" />;
  const shown = entries.slice(0, rowsMax);
  const above = directory.replace(/\/+[^/]*\/*$/, '') || '/';
  return (
    <>
      <table class="execs">
        <caption class="unseen">Files in {directory}</caption>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col" class="number wide">
              Size
            </th>
            <th scope="col" class="narrow">
              Mode
            </th>
            <th scope="col" class="number wide">
              Owner
            </th>
            <th scope="col" class="number wide">
              Changed
            </th>
            <th scope="col" class="act">
              <span class="unseen">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {directory === '/' ? null : (
            <tr>
              <th scope="row">
                <button
                  type="button"
                  class="plain mono"
                  aria-label={`Up to ${above}`}
                  onClick={() => {
                    onOpen(above);
                  }}
                >
                  ..
                </button>
              </th>
              <td colSpan={5} />
            </tr>
          )}
          {shown.map((entry) => (
            <FileRow
              key={entry.name_base64 ?? entry.name}
              entry={entry}
              path={`${directory.replace(/\/+$/, '')}/${entry.name}`}
              {...{ onOpen, onDownload, onRemove }}
            />
          ))}
        </tbody>
      </table>
      {entries.length > rowsMax ? (
        <p class="hint">
          The first {rowsMax} of {entries.length} files.
        </p>
      ) : null}
    </>
  );
}

interface FileRowProps extends Pick<FileListProps, 'onOpen' | 'onDownload' | 'onRemove'> {
  readonly entry: FileEntry;
  readonly path: string;
}

function FileRow({ entry, path, onOpen, onDownload, onRemove }: FileRowProps) {
  const { name, name_base64, type, size, mode, uid, gid, modified_at, target } = entry;
  // The API takes paths as text, so a name with other bytes can only be shown.
  const isUsable = name_base64 === undefined;
  const open = type === 'directory' || type === 'link' ? onOpen : type === 'file' ? onDownload : null;
  const shown = `${name}${type === 'directory' ? '/' : ''}`;
  return (
    <tr>
      <th scope="row" title={name}>
        {open === null || !isUsable ? (
          <span class="mono">{shown}</span>
        ) : (
          <button
            type="button"
            class="plain mono"
            onClick={() => {
              open(path);
            }}
          >
            {shown}
          </button>
        )}
        {target === undefined ? null : <span class="hint"> → {target}</span>}
      </th>
      <td class="number wide">{type === 'file' ? formatBytes(size) : ''}</td>
      <td class="narrow mono">{mode}</td>
      <td class="number wide">
        {uid}:{gid}
      </td>
      <td class="number wide">{formatAge(modified_at, Date.now())}</td>
      <td class="act">
        {isUsable ? (
          <Button
            onClick={() => {
              onRemove(path);
            }}
          >
            Remove
          </Button>
        ) : null}
      </td>
    </tr>
  );
}

interface Directory {
  readonly entries: readonly FileEntry[] | null;
  readonly error: unknown;
}

/** Lists the directory, and again after each change in it. */
function useDirectory(box: string, directory: string): Directory {
  const [found, setFound] = useState<Directory>({ entries: null, error: null });
  useEffect(() => {
    const left = new AbortController();
    const { signal } = left;
    let timer: number | undefined;
    const list = async (): Promise<void> => {
      timer = undefined;
      try {
        const entries = await boxrun.files(box).list(directory, { signal });
        setFound({ entries, error: null });
      } catch (error) {
        if (!signal.aborted) setFound({ entries: null, error });
      }
    };
    const follow = async (): Promise<void> => {
      try {
        for await (const _change of boxrun.files(box).watch(directory, { signal }))
          timer ??= window.setTimeout(() => void list(), settleMs);
        await list(); // The directory itself is gone.
      } catch (error) {
        if (!signal.aborted) setFound((before) => ({ entries: before.entries, error }));
      }
    };
    setFound({ entries: null, error: null });
    void list();
    void follow();
    return () => {
      left.abort();
      window.clearTimeout(timer);
    };
  }, [box, directory]);
  return found;
}
