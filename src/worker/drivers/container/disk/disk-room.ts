// Keeps the disk of a box from promising more than the host has. Disks are sparse files, so all of them together may be
// larger than the host's free space. This file tells the box's file system, again and again, how much of its free space
// it may not use: then a program gets ENOSPC when it writes, and nothing that was written is lost later. The kernel
// counts what waits in memory to be written, too; that much is left free on the host.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { limits } from '../../../../shared/limits.ts';
import type { Logger } from '../../../../shared/observe/log.ts';
import type { BoxPaths } from '../box/paths.ts';

export interface Room {
  readonly hostFreeBytes: number;
  /** Written by boxes, and not on the host's disk yet. */
  readonly pendingBytes: number;
  /** Boxes that share the host's disk. */
  readonly disks: number;
  readonly fileSystem: { readonly blocks: number; readonly freeBlocks: number; readonly blockBytes: number };
}

/** As mke2fs and the kernel choose it: a fiftieth, and no more than so many blocks (ext4_calculate_resv_clusters). */
const usualReserveBlocksMax = 4096;

/** Blocks of the box's file system that must stay free. */
export function blocksToReserve({ hostFreeBytes, pendingBytes, disks, fileSystem }: Room): number {
  const { blocks, freeBlocks, blockBytes } = fileSystem;
  const usual = Math.min(Math.floor(blocks / 50), usualReserveBlocksMax);
  const shareBytes = Math.max(0, hostFreeBytes - pendingBytes - limits.diskMarginBytes) / Math.max(1, disks);
  return Math.max(usual, Math.min(blocks - 1, Math.ceil(freeBlocks - shareBytes / blockBytes)));
}

/** Until `close`; the disk stays as it is then. `initPid` is a process in the box. */
export function keepDiskRoom(paths: BoxPaths, initPid: number, log: Logger): { close(): void } {
  const boxesDir = `${dirname(paths.home)}/`;
  let reserved = -1;
  let warned = false;

  async function look(): Promise<void> {
    const disks = thinDisks(boxesDir);
    const own = disks.find(({ image }) => image === paths.diskImage);
    if (own === undefined) return; // A plain directory: the host's own file system says ENOSPC.
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

  let looking: Promise<void> | null = null;
  const lookOnce = () => {
    looking ??= look()
      .catch((error: unknown) => {
        if (!warned) log.warn({ err: error }, 'the box is not kept from filling the disk of the host');
        warned = true;
      })
      .finally(() => {
        looking = null;
      });
  };
  lookOnce(); // A command may write a gigabyte before the first tick.
  const timer = setInterval(lookOnce, limits.diskRoomEveryMs);
  timer.unref();
  return {
    close: () => {
      clearInterval(timer);
    },
  };
}

/** Of boxes of this server that run. */
function thinDisks(boxesDir: string): { device: string; image: string }[] {
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

/** A disk may be unmounted meanwhile. */
function readOr(path: string, fallback: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return fallback;
  }
}
