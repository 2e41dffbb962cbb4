// Whether the disk of the host is nearly full, looked at every second: then boxes are told (their row says so, and
// clients hear of it), /readyz says so, and the reserve is given up for whoever removes something. What boxes write
// ends with ENOSPC by then: see the container driver's disk-room.ts.
import { statfs } from 'node:fs/promises';
import type { DiskReserve } from '../../shared/host/disk-reserve.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { BoxRegistry } from '../boxes/box-registry.ts';

export interface DiskWatch {
  /** False while nothing new is started for want of disk, or boxes cannot write. */
  readonly hasRoom: boolean;
  /** Before something is removed: gives the reserve up where the disk is full. */
  makeRoom(): Promise<void>;
  close(): void;
}

export interface DiskWatchDeps {
  readonly stateDir: string;
  /** Below it nothing new is started: MiB. */
  readonly floorMb: number;
  readonly registry: Pick<BoxRegistry, 'all'>;
  readonly reserve: DiskReserve;
  readonly log: Logger;
}

const mib = 1024 * 1024;
/** Boxes come near the margin and seldom to it, and the disk is not called free at each byte that goes. */
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
    if (isFull !== wasFull) log.warn({ freeMb: Math.floor(free / mib), isFull }, 'the disk of the host');
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
    async makeRoom() {
      if ((await freeBytes()) < limits.diskReserveBytes && reserve.release())
        log.warn({ stateDir }, 'the disk is full: the reserve is given up for a removal');
    },
    close() {
      clearInterval(timer);
    },
  };
}
