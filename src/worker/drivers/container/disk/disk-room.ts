// Keeps the boxes from writing more than the host's disk can hold. Disks are sparse files, so together they may be
// larger than the host's free space. This file regularly tells the file system of the box how much of its free space it
// may not use. So a program gets ENOSPC when it writes, and no written data is lost later. Data that boxes have written
// but that still waits in memory will need room on the host's disk, so it is subtracted from the host's free space.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { limits } from '../../../../shared/limits.ts';
import type { Logger } from '../../../../shared/observe/log.ts';
import type { BoxPaths } from '../paths.ts';

export interface Room {
  readonly hostFreeBytes: number;
  /** Data that boxes have written and that is not on the host's disk yet. */
  readonly pendingBytes: number;
  /** Number of running boxes that share the host's disk. */
  readonly disks: number;
  readonly fileSystem: { readonly blocks: number; readonly freeBlocks: number; readonly blockBytes: number };
}

/** The kernel reserves a fiftieth of a disk by itself, but at most this (ext4_calculate_resv_clusters in fs/ext4). */
const usualReserveBlocksMax = 4096;

/** Returns the number of blocks that must stay free in the box's file system. */
export function blocksToReserve({ hostFreeBytes, pendingBytes, disks, fileSystem }: Room): number {
  const { blocks, freeBlocks, blockBytes } = fileSystem;
  const usual = Math.min(Math.floor(blocks / 50), usualReserveBlocksMax);
  const shareBytes = Math.max(0, hostFreeBytes - pendingBytes - limits.diskMarginBytes) / Math.max(1, disks);
  return Math.max(usual, Math.min(blocks - 1, Math.ceil(freeBlocks - shareBytes / blockBytes)));
}

/**
 * Updates the reserved blocks every `limits.diskRoomEveryMs` milliseconds until `close`. `close` does not reset them.
 * @param initPid a process in the box
 */
export function keepDiskRoom(paths: BoxPaths, initPid: number, log: Logger): { close(): void } {
  const boxesDir = `${dirname(paths.home)}/`;
  let reserved = -1;
  let warned = false;

  async function update(): Promise<void> {
    const disks = mountedDisks(boxesDir);
    const own = disks.find(({ image }) => image === paths.diskImage);
    if (own === undefined) return; // The disk is a plain directory: the host's file system itself reports ENOSPC.
    const [host, inside] = await Promise.all([statfs(paths.home), statfs(`/proc/${initPid}/root/`)]);
    const pendingBytes = disks.reduce(
      (sum, { device }) => sum + attribute(device, 'delayed_allocation_blocks') * inside.bsize,
      0,
    );
    const blocks = blocksToReserve({
      hostFreeBytes: host.bavail * host.bsize,
      pendingBytes,
      disks: disks.length,
      fileSystem: { blocks: inside.blocks, freeBlocks: inside.bfree, blockBytes: inside.bsize },
    });
    if (blocks === reserved) return;
    writeFileSync(`/sys/fs/ext4/${own.device}/reserved_clusters`, String(blocks));
    reserved = blocks;
  }

  let updating: Promise<void> | null = null;
  const startUpdate = () => {
    updating ??= update()
      .catch((error: unknown) => {
        if (!warned) log.warn({ err: error }, 'the blocks that a box may not use could not be set');
        warned = true;
      })
      .finally(() => {
        updating = null;
      });
  };
  startUpdate(); // A command may write a gigabyte before the first interval has passed.
  const timer = setInterval(startUpdate, limits.diskRoomEveryMs);
  timer.unref();
  return {
    close: () => {
      clearInterval(timer);
    },
  };
}

/** Returns the disks of this server's running boxes. */
function mountedDisks(boxesDir: string): { device: string; image: string }[] {
  return readdirSync('/sys/fs/ext4')
    .filter((name) => name.startsWith('loop'))
    .flatMap((device) => {
      const image = readOr(`/sys/block/${device}/loop/backing_file`, '').trimEnd();
      return image.startsWith(boxesDir) ? [{ device, image }] : [];
    });
}

function attribute(device: string, name: string): number {
  return Number(readOr(`/sys/fs/ext4/${device}/${name}`, '0'));
}

/** Another box may stop at any moment. Then the files of its device do not exist any more. */
function readOr(path: string, fallback: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return fallback;
  }
}
