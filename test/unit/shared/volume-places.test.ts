// Tests the places of volumes in a box: which are allowed on each driver, and in which order they are mounted.
import { describe, expect, it } from 'vitest';
import { byDepth, checkVolumePlaces, guestPlace } from '../../../src/shared/boxes/volume-places.ts';

const volumes = (...places: string[]) =>
  places.map((guestPath) => ({ host_path: '/h', guest_path: guestPath, readonly: false }));
const refusal = (driver: 'boxlite' | 'container', network: boolean, ...places: string[]) => {
  try {
    checkVolumePlaces(volumes(...places), driver, network);
    return null;
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint?: string };
    expect([code, hint]).toEqual(['VALIDATION_ERROR', expect.any(String)]);
    return message;
  }
};

it.each([
  ['/a//b/', '/a/b'],
  ['/a/./b', '/a/b'],
  ['/a/../b', '/b'],
  ['/../..', '/'],
  ['//', '/'],
  ['/a/..', '/'],
  ['//a', '/a'],
  ['/a /b', '/a /b'],
])('guestPlace turns %s into %s', (path, place) => {
  expect(guestPlace(path)).toBe(place);
});

it('byDepth puts a place after the place that contains it, and changes the order no further', () => {
  expect(byDepth(['/a/b/c', '/d', '/a//b/', '/a', '/c/../b'], (path) => path)).toEqual([
    '/d',
    '/a',
    '/c/../b',
    '/a//b/',
    '/a/b/c',
  ]);
});

describe.each(['container', 'boxlite'] as const)('a volume on %s', (driver) => {
  it('cannot have the place of the image, of devices or of the kernel', () => {
    const impossible = [
      '/',
      '//',
      '/.',
      '/a/..',
      '/dev',
      '/dev/',
      '/x/../dev',
      '/proc',
      '/proc/',
      '/proc/self',
      '/proc/sys/kernel',
      '/sys',
      '/sys/fs/cgroup',
      '/dev/null',
      '/dev/pts',
      '/dev/pts/0',
      '/dev/mqueue',
      '/dev/stdout',
      driver === 'container' ? '/dev/.boxrun' : '/.boxrun/cg',
      `/${'x'.repeat(256)}`,
      '/x'.repeat(2048),
    ];
    for (const place of impossible)
      expect(refusal(driver, false, place), place).toMatch(/^a volume cannot be mounted at /);
  });

  it('can have any other place, even with a similar name', () => {
    for (const place of [
      '/etc',
      '/etc/hosts',
      '/dev/shm',
      '/dev/shm/x',
      '/dev/log',
      '/processes',
      '/system',
      '/devel',
      '/devel/null',
      '/root',
      '/home/./x',
    ]) {
      expect(refusal(driver, false, place), place).toBeNull();
    }
  });

  it('cannot have the place of another volume', () => {
    expect(refusal(driver, false, '/a', '/a/')).toBe(
      'two volumes are mounted at one place in the box: /a and /a/ are one place',
    );
    expect(refusal(driver, false, '/a/b', '/a/c/../b')).toMatch(/are one place/);
    expect(refusal(driver, false, '/a', '/a')).toBe('two volumes are mounted at one place in the box: /a');
    expect(refusal(driver, false, '/a', '/a/b')).toBeNull();
  });
});

it('a micro-VM has a limited number of volumes, and a container has no such limit', () => {
  expect(refusal('boxlite', false, '/a', '/b')).toBeNull();
  expect(refusal('boxlite', false, '/a', '/b', '/c')).toBe('a micro-VM without a network has at most 2 volumes, not 3');
  expect(refusal('boxlite', true, '/a')).toBeNull();
  expect(refusal('boxlite', true, '/a', '/b')).toBe('a micro-VM with a network has at most 1 volume, not 2');
  expect(refusal('container', true, '/a', '/b', '/c', '/d', '/e')).toBeNull();
});
