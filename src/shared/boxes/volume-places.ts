// Where volumes stand in a box: the written form of a place, the order in which mounts go, and the places that cannot
// be had. Pure. The supervisor checks a create by it before an image is pulled, and the drivers mount in its order.
import { posix } from 'node:path';
import type { Volume } from '../api.ts';
import type { DriverName } from '../settings/config.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';

/** What the kernel takes (PATH_MAX and NAME_MAX), less the byte at the end of a path. */
const pathBytesMax = 4095;
const nameBytesMax = 255;

/**
 * Each with everything below it. The kernel's own file systems: what lies over them breaks programs, and nothing can be
 * made in them.
 */
const kernelPlaces = ['/proc', '/sys'];
/** What a box has in /dev. A volume may lie beside it, and at /dev/shm. */
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
/** Where a driver has its own programs in a box. */
const toolPlaces: Readonly<Record<DriverName, string>> = { boxlite: '/.boxrun', container: '/dev/.boxrun' };

/** The place that `path` (absolute) names, without `.`, `..`, empty names and a slash at its end. */
export function guestPlace(path: string): string {
  return posix.normalize(`/${path}`).replace(/(.)\/$/, '$1');
}

export function isBelow(place: string, above: string): boolean {
  return above === '/' ? place !== '/' : place.startsWith(`${above}/`);
}

/** A place comes after every place above it; otherwise the order stays. */
export function byDepth<T>(mounts: readonly T[], placeOf: (mount: T) => string): T[] {
  const depth = (mount: T) => guestPlace(placeOf(mount)).split('/').length;
  return [...mounts].sort((one, other) => depth(one) - depth(other));
}

/** @throws VALIDATION_ERROR naming the place that `driver` cannot give to a volume */
export function checkVolumePlaces(volumes: readonly Volume[], driver: DriverName, network: boolean): void {
  const taken = new Map<string, string>();
  for (const { guest_path: path } of volumes) {
    const place = guestPlace(path);
    const why = whyImpossible(place, driver);
    if (why !== null)
      throw invalid(`a volume cannot be mounted at ${shown(path)}: ${why}`, 'mount it at another place in the box');
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
  if (place === '/') return 'the image is there';
  if (place === '/dev') return 'the devices of the box are there';
  const isAtOrBelow = (above: string) => place === above || isBelow(place, above);
  if (isAtOrBelow(toolPlaces[driver])) return 'programs of BoxRun are there';
  const kernel = kernelPlaces.find(isAtOrBelow);
  if (kernel !== undefined) return `${kernel} belongs to the kernel`;
  if (devicePlaces.some(isAtOrBelow)) return 'a device of the box is there';
  return null;
}

/** Of a path that is too long, the beginning. */
function shown(path: string): string {
  return path.length > nameBytesMax ? `${path.slice(0, nameBytesMax)}…` : path;
}

export function invalid(message: string, hint: string): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', message, { hint });
}
