// Empty disks by size: mkfs.ext4 makes one of each size, once; of every other one its few hundred KiB are written,
// which takes a millisecond instead of two programs. Called by disk.ts; an archive of an empty disk is there whole or
// not at all.
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryDirectory } from '../../../../shared/images/layouts.ts';
import { mustRun } from '../host/tools.ts';

export interface EmptyDisk {
  readonly sizeBytes: number;
  /** What is not zero: everything else is a hole. */
  readonly pieces: readonly { readonly offset: number; readonly bytes: Buffer }[];
}

const blockBytes = 512;
const makeTimeoutMs = 60_000;
/**
 * Nothing is written ahead, and nothing is kept for growing: the image takes a few hundred KiB until the box writes.
 * All disks of a size have one UUID, which nobody looks for: they are mounted by path.
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
/** Another one where the options are others. */
const archivesName = 'ext4-2';

/**
 * The empty disk of `sizeBytes`; formatted on the first call for that size on this host.
 * @throws RUNTIME_ERROR, TIMEOUT
 */
export async function emptyDisk(imagesDir: string, sizeBytes: number): Promise<EmptyDisk> {
  const archive = join(imagesDir, 'disks', archivesName, `${sizeBytes}.tar`);
  const known = await readFile(archive).catch(() => null);
  if (known !== null) return { sizeBytes, pieces: piecesOf(known) };
  const temporary = await temporaryDirectory(imagesDir, archive);
  try {
    const disk = join(temporary, 'disk');
    const file = await open(disk, 'w', 0o600);
    await file.truncate(sizeBytes).finally(() => file.close());
    await mustRun('mkfs.ext4', [...formatOptions, disk], { timeoutMs: makeTimeoutMs });
    // tar(1) finds the holes without reading them, which Node has no call for.
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

/** Makes the file anew, whatever was there. */
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
 * One file in tar's sparse format 1.0 (GNU tar manual, "PAX Format, Version 1.0"): an extended header, the file's
 * header, and then in its content the number of pieces, offset and length of each in decimal lines, padded to a block,
 * and behind that the pieces.
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
