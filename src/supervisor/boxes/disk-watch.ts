// Looks every second whether the disk of the host is nearly full. If it is, the rows of running boxes and /readyz say
// so. Before a removal, the reserve file is released if less than limits.diskReserveBytes is free. Writes of container
// boxes fail with ENOSPC at about the same point: see the container driver's disk-room.ts.
import { statfs } from 'node:fs/promises';
import type { DiskReserve } from '../../shared/host/disk-reserve.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { BoxRegistry } from './box-registry.ts';

export interface DiskWatch {
  /** False while free disk is below the floor, or so little that boxes cannot write. */
  readonly hasRoom: boolean;
  /**
   * Releases the reserve if less than limits.diskReserveBytes is free. Call it before a removal, because a removal
   * needs some free disk.
   */
  releaseReserve(): Promise<void>;
  close(): void;
}

export interface DiskWatchDeps {
  readonly stateDir: string;
  /** The floor of free disk, in MiB: see disk-floor.ts. */
  readonly floorMb: number;
  readonly registry: Pick<BoxRegistry, 'all'>;
  readonly reserve: DiskReserve;
  readonly log: Logger;
}

const mib = 1024 * 1024;
/**
 * Two limits, so that the answer does not change with every byte. Both lie above the margin at which writes fail:
 * boxes come close to that margin, but seldom reach it.
 */
const fullBelowBytes = limits.diskMarginBytes + 16 * mib;
const freeAboveBytes = limits.diskMarginBytes + 64 * mib;

export function watchDisk({ stateDir, floorMb, registry, reserve, log }: DiskWatchDeps): DiskWatch {
  let isFull = false;
  let isBelowFloor = false;
  const freeBytes = async () => {
    const { bavail, bsize } = await statfs(stateDir);
    return bavail * bsize;
  };

  async function look(): Promise<void> {
    const free = await freeBytes();
    isBelowFloor = free < floorMb * mib;
    const wasFull = isFull;
    isFull = free < (wasFull ? freeAboveBytes : fullBelowBytes);
    if (isFull !== wasFull) {
      const text = isFull ? 'the disk of the host is nearly full' : 'the disk of the host has room again';
      log.warn({ freeMb: Math.floor(free / mib), isFull }, text);
    }
    if (!isFull) await reserve.refill();
    for (const box of registry.all()) void box.noteHostDisk(isFull);
  }

  let looking: Promise<void> | null = null;
  const timer = setInterval(() => {
    looking ??= look()
      .catch((error: unknown) => {
        log.warn({ err: error }, 'looking at the disk failed');
      })
      .finally(() => {
        looking = null;
      });
  }, limits.diskWatchEveryMs);
  timer.unref();
  return {
    get hasRoom() {
      return !isFull && !isBelowFloor;
    },
    async releaseReserve() {
      if ((await freeBytes()) < limits.diskReserveBytes && reserve.release())
        log.warn({ stateDir }, 'the disk is full: the reserve file is released for a removal');
    },
    close() {
      clearInterval(timer);
    },
  };
}
