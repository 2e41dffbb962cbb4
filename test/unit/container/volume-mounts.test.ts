// Tests the check that the right directories are mounted in a box: it compares the mount tables of host and box.
import { describe, expect, it } from 'vitest';
import { expectMounted, missingMounts, parseMounts } from '../../../src/worker/drivers/container/disk/volume-mounts.ts';

const host = parseMounts(
  [
    '27 1 8:1 / / rw - ext4 /dev/a rw',
    '30 27 8:2 / /srv rw - ext4 /dev/b rw',
    '31 27 8:3 /@data /srv/with\\040blank rw - btrfs /dev/c rw',
    '32 27 0:50 / /over rw - tmpfs one rw',
    '33 27 0:51 / /over rw - tmpfs two rw',
  ].join('\n'),
);
const box = (...mounts: string[]) => parseMounts(mounts.map((mount) => `40 30 ${mount} /v rw - x x rw`).join('\n'));

describe('a volume is found', () => {
  it.each([
    ['/home/me', '8:1 /home/me'],
    ['/srv', '8:2 /'],
    ['/srv/site', '8:2 /site'],
    ['/srvice', '8:1 /srvice'],
    ['/srv/with blank/x y', '8:3 /@data/x\\040y'],
    ['/over/x', '0:51 /x'],
  ])('%s', (path, mount) => {
    expect(missingMounts(host, box('8:9 /other', mount), [path])).toEqual([]);
  });
});

it('is missed when something else was mounted', () => {
  expect(missingMounts(host, box('8:1 /etc', '8:2 /site'), ['/srv/site', '/srv/other', '/etc/x'])).toEqual([
    '/srv/other',
    '/etc/x',
  ]);
  expect(missingMounts(host, box('8:1 /site'), ['/srv/site'])).toEqual(['/srv/site']);
});

it('fails the start with FORBIDDEN when a checked directory is not mounted in the box', async () => {
  // This process stands for the box. Nothing is mounted in it from that directory.
  await expect(expectMounted(process.pid, ['/nowhere/at/all'])).rejects.toMatchObject({
    code: 'FORBIDDEN',
    message: expect.stringContaining('/nowhere/at/all changed during the start of the box') as string,
  });
});
