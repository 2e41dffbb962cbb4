// The disk of a box: what it writes over its image. A sparse ext4 image of the size asked for, mounted through a loop device, so that the size
// is a real bound and removal is one unlink; where the host has no loop devices, a plain directory without a bound.
import { existsSync } from 'node:fs';
import { mkdir, statfs, truncate, writeFile } from 'node:fs/promises';
import type { BoxPaths } from './paths.ts';
import { mustRun } from './tools.ts';

export interface Disk {
  readonly kind: 'image' | 'directory';
  readonly path: string;
}

const formatTimeoutMs = 60_000;

/** Makes an empty disk of `sizeGb` GiB (1024³ bytes). */
export async function createDisk(paths: BoxPaths, sizeGb: number): Promise<Disk> {
  if (!existsSync('/dev/loop-control')) {
    await mkdir(paths.diskDir, { recursive: true, mode: 0o700 });
    return { kind: 'directory', path: paths.diskDir };
  }
  await writeFile(paths.diskImage, '', { mode: 0o600 });
  await truncate(paths.diskImage, await imageBytes(paths.home, sizeGb));
  // Nothing is written ahead: the image takes a few MiB until the box writes.
  const options = 'lazy_itable_init=1,lazy_journal_init=1,nodiscard';
  await mustRun('mkfs.ext4', ['-q', '-F', '-m', '0', '-E', options, paths.diskImage], { timeoutMs: formatTimeoutMs });
  return { kind: 'image', path: paths.diskImage };
}

/** More than the whole file system below could never be used up, and a file cannot be of any size. */
async function imageBytes(dir: string, sizeGb: number): Promise<number> {
  const below = await statfs(dir);
  return Math.min(sizeGb * 2 ** 30, below.blocks * below.bsize);
}
