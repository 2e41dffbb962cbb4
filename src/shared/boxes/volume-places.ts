// Rules for the places of volumes in a box: the normal form of a path, the order of the mounts, and the places where no
// volume can be. It only computes; it never looks at a disk.
import { posix } from 'node:path';
import type { Volume } from '../api.ts';
import type { DriverName } from '../settings/config.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';

/** The kernel's PATH_MAX, less the NUL byte at the end, and its NAME_MAX. */
const pathBytesMax = 4095;
const nameBytesMax = 255;

/**
 * The kernel's own file systems, each with everything below it. A volume over them breaks programs, and a mount point
 * cannot be made inside of them.
 */
const kernelPlaces = ['/proc', '/sys'];
/** The entries of /dev in a box. A volume may have another name there, and may be at /dev/shm. */
const devicePlaces = [
  'console',
  'fd',
  'full',
  'mqueue',
  'null',
  'ptmx',
  'pts',
  'random',
  'stderr',
  'stdin',
  'stdout',
  'tty',
  'urandom',
  'zero',
].map((name) => `/dev/${name}`);
/** The directory in a box for the driver's own programs. */
const toolPlaces: Readonly<Record<DriverName, string>> = { boxlite: '/.boxrun', container: '/dev/.boxrun' };

/** The normal form of the absolute path `path`: without `.`, `..`, empty names and a slash at its end. */
export function guestPlace(path: string): string {
  return posix.normalize(`/${path}`).replace(/(.)\/$/, '$1');
}

export function isBelow(place: string, above: string): boolean {
  return above === '/' ? place !== '/' : place.startsWith(`${above}/`);
}

/** The mounts in an order in which each path comes after the paths above it. Otherwise the order does not change. */
export function byDepth<T>(mounts: readonly T[], placeOf: (mount: T) => string): T[] {
  const depth = (mount: T) => guestPlace(placeOf(mount)).split('/').length;
  return [...mounts].sort((one, other) => depth(one) - depth(other));
}

/** @throws VALIDATION_ERROR naming the first place where `driver` cannot mount a volume, or if there are too many */
export function checkVolumePlaces(volumes: readonly Volume[], driver: DriverName, network: boolean): void {
  const taken = new Map<string, string>();
  for (const { guest_path: path } of volumes) {
    const place = guestPlace(path);
    const why = whyImpossible(place, driver);
    if (why !== null)
      throw invalid(`a volume cannot be mounted at ${shortened(path)}: ${why}`, 'mount it at another place in the box');
    const other = taken.get(place);
    if (other !== undefined) {
      const names = other === path ? path : `${other} and ${path} are one place`;
      throw invalid(`two volumes are mounted at one place in the box: ${names}`, 'give each volume a place of its own');
    }
    taken.set(place, path);
  }
  const most = network ? limits.microVmVolumesWithNetworkMax : limits.microVmVolumesMax;
  if (driver === 'boxlite' && volumes.length > most) {
    const kind = network ? 'with a network' : 'without a network';
    throw invalid(
      `a micro-VM ${kind} has at most ${most} volume${most === 1 ? '' : 's'}, not ${volumes.length}`,
      'mount one directory that holds the others',
    );
  }
}

function whyImpossible(place: string, driver: DriverName): string | null {
  if (Buffer.byteLength(place) > pathBytesMax) return `a path has at most ${pathBytesMax} bytes`;
  if (place.split('/').some((name) => Buffer.byteLength(name) > nameBytesMax))
    return `a name in a path has at most ${nameBytesMax} bytes`;
  if (place === '/') return 'the root file system is the image';
  if (place === '/dev') return 'it has the devices of the box';
  const isAtOrBelow = (above: string) => place === above || isBelow(place, above);
  if (isAtOrBelow(toolPlaces[driver])) return 'it has programs of BoxRun';
  const kernel = kernelPlaces.find(isAtOrBelow);
  if (kernel !== undefined) return `${kernel} belongs to the kernel`;
  if (devicePlaces.some(isAtOrBelow)) return 'it is a device of the box';
  return null;
}

/** Cuts a path that is too long for a message. */
function shortened(path: string): string {
  return path.length > nameBytesMax ? `${path.slice(0, nameBytesMax)}…` : path;
}

export function invalid(message: string, hint: string): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', message, { hint });
}
