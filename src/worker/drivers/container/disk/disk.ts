// The disk of a box: what it writes over its image. A sparse ext4 image of the size asked for, mounted through a loop
// device, so that the size is a real bound and removal is one unlink; where the host has no loop devices, a plain
// directory without a bound.
import { closeSync, openSync, readFileSync, readdirSync, statfsSync } from 'node:fs';
import { mkdir, realpath } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { BoxRunError } from '../../../../shared/errors.ts';
import { emptyDisk, writeDisk } from './empty-disk.ts';
import type { BoxPaths } from '../box/paths.ts';

export interface Disk {
  readonly kind: 'image' | 'directory';
  readonly path: string;
}

const releasePollMs = 2;

/** Makes an empty disk of `sizeGb` GiB (1024³ bytes). */
export async function createDisk(paths: BoxPaths, imagesDir: string, sizeGb: number): Promise<Disk> {
  if (!hasLoopDevices()) {
    await mkdir(paths.diskDir, { recursive: true, mode: 0o700 });
    return { kind: 'directory', path: paths.diskDir };
  }
  writeDisk(paths.diskImage, await emptyDisk(imagesDir, imageBytes(paths.home, sizeGb)));
  return { kind: 'image', path: paths.diskImage };
}

/** Opening the control device also loads the kernel's module. */
function hasLoopDevices(): boolean {
  try {
    closeSync(openSync('/dev/loop-control', 'r'));
    return true;
  } catch {
    return false;
  }
}

/** More than the whole file system below could never be used up, and a file cannot be of any size. */
function imageBytes(dir: string, sizeGb: number): number {
  const below = statfsSync(dir);
  return Math.min(sizeGb * 2 ** 30, below.blocks * below.bsize);
}

/**
 * Waits until the kernel has let go of the disk, which it does a moment after the last process of the box: an image
 * that is mounted twice is damaged.
 * @throws TIMEOUT after `timeoutMs` milliseconds
 */
export async function diskReleased(paths: BoxPaths, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  const image = await realpath(paths.diskImage).catch(() => null);
  while (image !== null && isAttached(image)) {
    if (Date.now() > deadline)
      throw new BoxRunError('TIMEOUT', `the disk ${paths.diskImage} is still in use after ${timeoutMs} ms`);
    await delay(releasePollMs);
  }
}

function isAttached(image: string): boolean {
  return readdirSync('/sys/block').some((name) => name.startsWith('loop') && backingFile(name) === image);
}

function backingFile(device: string): string | null {
  try {
    return readFileSync(`/sys/block/${device}/loop/backing_file`, 'utf8').replace(/\n$/, '');
  } catch {
    return null; // Not attached.
  }
}
