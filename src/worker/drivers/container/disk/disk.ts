// The disk of a box holds everything that the box changes in its image. It is a sparse ext4 image of the requested
// size, mounted through a loop device. So the size is a real limit, and removal is one unlink. On a host without loop
// devices it is a plain directory without a limit.
import { closeSync, openSync, readFileSync, readdirSync, statfsSync } from 'node:fs';
import { mkdir, realpath } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { BoxRunError } from '../../../../shared/errors.ts';
import { emptyDisk, writeDisk } from './empty-disk.ts';
import type { BoxPaths } from '../paths.ts';

export interface Disk {
  readonly kind: 'image' | 'directory';
  readonly path: string;
}

const releasePollMs = 2;

/**
 * Makes an empty disk of `sizeGb` GiB (1024³ bytes).
 * @throws RUNTIME_ERROR, TIMEOUT
 */
export async function createDisk(paths: BoxPaths, imagesDir: string, sizeGb: number): Promise<Disk> {
  if (!hasLoopDevices()) {
    await mkdir(paths.diskDir, { recursive: true, mode: 0o700 });
    return { kind: 'directory', path: paths.diskDir };
  }
  writeDisk(paths.diskImage, await emptyDisk(imagesDir, imageBytes(paths.home, sizeGb)));
  return { kind: 'image', path: paths.diskImage };
}

/** Opening the control device also makes the kernel load its module. */
function hasLoopDevices(): boolean {
  try {
    closeSync(openSync('/dev/loop-control', 'r'));
    return true;
  } catch {
    return false;
  }
}

/** A disk is never larger than the host's file system: more could not be used, and a file's size has a limit. */
function imageBytes(dir: string, sizeGb: number): number {
  const host = statfsSync(dir);
  return Math.min(sizeGb * 2 ** 30, host.blocks * host.bsize);
}

/**
 * Waits until the kernel has unmounted the disk. It does so a moment after the end of the last process of the box. To
 * mount an image twice would damage it.
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
    return null; // The device has no file.
  }
}
