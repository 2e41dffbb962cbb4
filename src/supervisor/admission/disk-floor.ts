// The floor of free disk: below it nothing new is started, so that what runs can still write its output and the
// database its rows. Asked by control.ts before a create and an exec; a look at the disk is good for a moment.
import { statfs } from 'node:fs/promises';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

export interface DiskFloor {
  /** @throws RESOURCE_EXCEEDED */
  check(): Promise<void>;
}

const mib = 1024 * 1024;

/** @param path on the disk in question; `leastMb` 0: no floor */
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
