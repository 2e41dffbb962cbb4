// Empty disks from their archive: for each size the file system is the one that mkfs.ext4 made. A damaged archive never
// becomes a disk.
import { execFileSync } from 'node:child_process';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { emptyDisk, writeDisk } from '../../../src/worker/drivers/container/disk/empty-disk.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

const gib = 2 ** 30;
const check = (disk: string) =>
  execFileSync('e2fsck', ['-f', '-n', disk], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' },
  });

describe('an empty disk', () => {
  it.each([1, 8])(
    'of %i GiB is a complete file system, takes less than 1 MiB, and is the same from the archive',
    async (sizeGb) => {
      const dir = temporaryDirectory();
      const paths = ['first', 'second'].map((name) => join(dir, name));
      for (const path of paths) writeDisk(path, await emptyDisk(join(dir, 'images'), sizeGb * gib));
      for (const path of paths) {
        expect(statSync(path).size).toBe(sizeGb * gib);
        expect(statSync(path).blocks * 512).toBeLessThan(1024 ** 2);
        expect(check(path)).toContain('11/'); // The 11 inodes that mke2fs(8) itself uses.
      }
      const [first, second] = await Promise.all(paths.map(async () => emptyDisk(join(dir, 'images'), sizeGb * gib)));
      expect(first?.pieces).toEqual(second?.pieces);
    },
  );

  it('of 1 TiB takes only a few MiB', async () => {
    const dir = temporaryDirectory();
    const path = join(dir, 'disk');
    writeDisk(path, await emptyDisk(join(dir, 'images'), 1024 * gib));
    expect(statSync(path).size).toBe(1024 * gib);
    expect(statSync(path).blocks * 512).toBeLessThan(32 * 1024 ** 2);
  });

  it('replaces a file at its path', async () => {
    const dir = temporaryDirectory();
    const path = join(dir, 'disk');
    writeFileSync(path, Buffer.alloc(3 * 1024 ** 2, 'x'));
    writeDisk(path, await emptyDisk(join(dir, 'images'), gib));
    expect(check(path)).toContain('11/');
  });

  it('is refused when its archive is cut', async () => {
    const images = join(temporaryDirectory(), 'images');
    await emptyDisk(images, gib);
    truncateSync(join(images, 'disks', 'ext4-2', `${gib}.tar`), 20_000);
    await expect(emptyDisk(images, gib)).rejects.toThrow('the archive of an empty disk is cut');
  });
});
