// Reads small text files of a running box from the host, without a start of a program in the box. It walks the path
// itself, name by name, from the root of the box's first process. So a link that the box has planted leads to a file of
// the box, never to a file of the host.
import { closeSync, constants, fstatSync, openSync, readSync, readlinkSync } from 'node:fs';

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY, O_RDONLY } = constants;
/** Opens a file without access to its content, see open(2). Node has no name for this flag. */
const O_PATH = 0o10000000;
const linksMax = 40;
const bytesMax = 1024 * 1024;

/**
 * Returns the text of a regular file in the box, cut at 1 MiB; an empty text if it cannot be read.
 * @param initPid a process in the box
 * @param path absolute
 */
export function readBoxText(initPid: number, path: string): string {
  const open: number[] = [];
  try {
    const file = openInBox(initPid, path, open);
    return file === null ? '' : textOf(file);
  } catch {
    return '';
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

/**
 * Returns a descriptor, or null if the path has too many links or does not lead to a regular file.
 * @param open gets every descriptor that is opened; the caller must close them all
 */
function openInBox(initPid: number, path: string, open: number[]): number | null {
  const opened = (at: string, flags: number): number => {
    const fd = openSync(at, flags);
    open.push(fd);
    return fd;
  };
  const root = opened(`/proc/${initPid}/root`, O_PATH | O_DIRECTORY);
  let parents = [root];
  let names = namesOf(path);
  for (let links = 0; ;) {
    const [name, ...rest] = names;
    if (name === undefined) return null;
    const here = `/proc/self/fd/${parents.at(-1)}/${name}`;
    names = rest;
    if (name === '..') {
      if (parents.length > 1) parents.pop();
      continue;
    }
    const found = opened(here, O_PATH | O_NOFOLLOW);
    const kind = fstatSync(found);
    if (kind.isSymbolicLink()) {
      if (++links > linksMax) return null;
      const target = readlinkSync(here);
      if (target.startsWith('/')) parents = [root];
      names = [...namesOf(target), ...rest];
    } else if (kind.isDirectory()) {
      parents.push(found);
    } else {
      // Opening a file that is not a regular one could block, or have an effect.
      return rest.length > 0 || !kind.isFile()
        ? null
        : opened(`/proc/self/fd/${found}`, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    }
  }
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

/** Reads at most the size that the file system reports, so a file of /proc, which reports 0, reads as empty. */
function textOf(fd: number): string {
  const bytes = Buffer.alloc(Math.min(fstatSync(fd).size, bytesMax));
  let length = 0;
  while (length < bytes.length) {
    const got = readSync(fd, bytes, length, bytes.length - length, null);
    if (got === 0) break;
    length += got;
  }
  return bytes.toString('utf8', 0, length);
}
