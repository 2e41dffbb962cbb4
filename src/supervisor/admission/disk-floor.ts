// The floor of free disk. Below it no box is created, no image is pulled and no command is started. So running commands
// can still write their output, and the writer its rows. An existing box may still be started. This file only refuses;
// disk-watch.ts reports the state of the disk. The free space is read again after limits.freeDiskStaleMs at the
// earliest.
import { statfs } from 'node:fs/promises';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

export interface DiskFloor {
  /** @throws RESOURCE_EXCEEDED */
  check(): Promise<void>;
}

const mib = 1024 * 1024;

/**
 * @param path a path on the disk
 * @param leastMb how many MiB must stay free; 0: no floor
 */
export function createDiskFloor(path: string, leastMb: number): DiskFloor {
  let freeMb = Infinity;
  let staleAt = 0;
  return {
    async check() {
      if (leastMb === 0) return;
      if (performance.now() >= staleAt) {
        const { bavail, bsize } = await statfs(path);
        freeMb = Math.floor((bavail * bsize) / mib);
        staleAt = performance.now() + limits.freeDiskStaleMs;
      }
      if (freeMb >= leastMb) return;
      throw new BoxRunError(
        'RESOURCE_EXCEEDED',
        `${freeMb} MB of disk are free at ${path}, and ${leastMb} must stay (BOXRUN_MIN_FREE_DISK_MB)`,
        {
          hint: 'remove boxes or images, free disk elsewhere, or lower --min-free-disk-mb of the server',
        },
      );
    },
  };
}
