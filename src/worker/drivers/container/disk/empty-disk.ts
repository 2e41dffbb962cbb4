// Empty disks by size. mkfs.ext4 makes one of each size, once, and a tar archive keeps it. Each box gets a copy of the
// few hundred KiB that are not zero, which takes a millisecond instead of two programs. An archive is complete, or it
// does not exist.
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import { readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryDirectory } from '../../../../shared/images/layouts.ts';
import { mustRun } from '../host/tools.ts';

export interface EmptyDisk {
  readonly sizeBytes: number;
  /** The parts that are not zero. Everything else is a hole. */
  readonly pieces: readonly { readonly offset: number; readonly bytes: Buffer }[];
}

const blockBytes = 512;
const makeTimeoutMs = 60_000;
/**
 * mkfs.ext4 writes as little as possible and keeps no space for growing. So the image takes a few hundred KiB until the
 * box writes. All disks of a size have the same UUID. That is harmless, because they are mounted by path.
 */
const formatOptions = [
  '-q',
  '-F',
  '-m',
  '0',
  '-O',
  '^resize_inode',
  '-E',
  'lazy_itable_init=1,lazy_journal_init=1,nodiscard',
];
/** Change this name when the options change. */
const archivesName = 'ext4-2';

/**
 * Returns the empty disk of `sizeBytes`. The first call for a size on this host formats it.
 * @throws RUNTIME_ERROR, TIMEOUT
 */
export async function emptyDisk(imagesDir: string, sizeBytes: number): Promise<EmptyDisk> {
  const archive = join(imagesDir, 'disks', archivesName, `${sizeBytes}.tar`);
  const known = await readFile(archive).catch(() => null);
  if (known !== null) return { sizeBytes, pieces: piecesOf(known) };
  const temporary = await temporaryDirectory(imagesDir, archive);
  try {
    const disk = join(temporary, 'disk');
    await writeFile(disk, '', { mode: 0o600 });
    await truncate(disk, sizeBytes);
    await mustRun('mkfs.ext4', [...formatOptions, disk], { timeoutMs: makeTimeoutMs });
    // tar(1) finds the holes without reading them. Node has no call for that.
    const format = ['--format=posix', '--sparse', '--sparse-version=1.0', '--hole-detection=seek'];
    await mustRun('tar', ['-c', ...format, '-C', temporary, '-f', join(temporary, 'tar'), 'disk'], {
      timeoutMs: makeTimeoutMs,
    });
    await rename(join(temporary, 'tar'), archive);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return { sizeBytes, pieces: piecesOf(await readFile(archive)) };
}

/** Writes the disk to `path`. A file that exists there is replaced. */
export function writeDisk(path: string, { sizeBytes, pieces }: EmptyDisk): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
  try {
    ftruncateSync(fd, sizeBytes);
    for (const { offset, bytes } of pieces) writeSync(fd, bytes, 0, bytes.length, offset);
  } finally {
    closeSync(fd);
  }
}

/**
 * Reads an archive of one file in tar's sparse format 1.0 (GNU tar manual, "PAX Format, Version 1.0"). It has an
 * extended header, the file's header, and the content. The content begins with the number of pieces, and the offset and
 * length of each, in decimal lines, padded to a block. The pieces follow.
 */
function piecesOf(archive: Buffer): EmptyDisk['pieces'] {
  const start = blockBytes + wholeBlocks(parseInt(archive.toString('latin1', 124, 136), 8)) + blockBytes;
  let at = start;
  const number = (): number => {
    const end = archive.indexOf('\n', at);
    const value = Number(archive.toString('latin1', at, end));
    at = end + 1;
    if (!Number.isSafeInteger(value)) throw new Error('the archive of an empty disk is damaged');
    return value;
  };
  const map = Array.from({ length: number() }, () => ({ offset: number(), length: number() }));
  at = start + wholeBlocks(at - start);
  return map.map(({ offset, length }) => {
    const bytes = archive.subarray(at, at + length);
    if (bytes.length < length) throw new Error('the archive of an empty disk is cut');
    at += length;
    return { offset, bytes };
  });
}

function wholeBlocks(bytes: number): number {
  return Math.ceil(bytes / blockBytes) * blockBytes;
}
