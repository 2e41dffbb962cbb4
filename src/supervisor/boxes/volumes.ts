// Checks the volumes of a create before anything is created or pulled: their places in the box, their paths on the
// host, and whether a volume can be mounted inside another one. It looks only at host paths that the server may mount.
import { lstat, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreateBoxBody, Volume } from '../../shared/api.ts';
import type { Config } from '../../shared/settings/config.ts';
import { resolveHostPath } from '../../shared/host/host-paths.ts';
import { byDepth, checkVolumePlaces, guestPlace, invalid, isBelow } from '../../shared/boxes/volume-places.ts';

/** Files that the container driver mounts into every box. A volume at such a place replaces the file. */
const ownFiles = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'];

/** A file or directory that must be in the box, so that the driver can mount something on it. */
interface MountPoint {
  readonly place: string;
  readonly kind: 'file' | 'directory';
  /** Its name in error messages. */
  readonly what: string;
}

/**
 * If the server allows only some host paths (`volumeRoots`), the row gets each path with its links resolved. A link
 * that is changed later then has no effect.
 * @returns the volumes for the row of the box
 * @throws VALIDATION_ERROR when a volume can never be mounted; RUNTIME_ERROR, FORBIDDEN for a path on the host
 */
export async function admitVolumes(body: CreateBoxBody, { driver, volumeRoots }: Config): Promise<Volume[] | null> {
  const { volumes = null, network, workdir } = body;
  if (volumes === null) return null;
  checkVolumePlaces(volumes, driver, network);
  const resolved = await Promise.all(
    volumes.map(async (volume) => ({ volume, path: await resolveHostPath(volume.host_path, volumeRoots) })),
  );
  const mounts = await Promise.all(
    resolved.map(async ({ volume, path }) => {
      // If the path has disappeared by now, the start of the box reports it.
      const found = await stat(path).catch(() => null);
      const kind = found === null || found.isDirectory() ? ('directory' as const) : ('file' as const);
      return {
        path,
        kind,
        place: guestPlace(volume.guest_path),
        readonly: volume.readonly,
        what: `the volume at ${volume.guest_path}`,
      };
    }),
  );
  const own = driver === 'boxlite' ? [] : [...filesOfBox(mounts), directoryOfBox(workdir)];
  for (const point of [...mounts, ...own]) {
    const above = byDepth(mounts, ({ place }) => place).findLast(({ place }) => contains(place, point));
    if (above !== undefined) await checkInside(above, point);
  }
  return volumeRoots.length === 0 ? [...volumes] : resolved.map(({ volume, path }) => ({ ...volume, host_path: path }));
}

function filesOfBox(mounts: readonly MountPoint[]): MountPoint[] {
  const places = ownFiles.filter((file) => !mounts.some(({ place }) => place === file));
  return places.map((place) => ({ place, kind: 'file', what: `the file ${place} of the box` }));
}

function contains(place: string, point: MountPoint): boolean {
  return isBelow(point.place, place) || (point.what === ownDirectory && point.place === place);
}

const ownDirectory = 'the working directory of the box';

function directoryOfBox(workdir: string): MountPoint {
  return { place: guestPlace(workdir), kind: 'directory', what: ownDirectory };
}

/**
 * Checks that `point` is in the volume `above`, or can be created there. A link in the volume leads to a path inside
 * the box, which is not known here. Then the start of the box finds out.
 * @throws VALIDATION_ERROR
 */
async function checkInside(
  above: MountPoint & { readonly path: string; readonly readonly: boolean },
  point: MountPoint,
): Promise<void> {
  const rest = point.place
    .slice(above.place.length)
    .split('/')
    .filter((name) => name !== '');
  if (above.kind === 'file')
    throw invalid(`${point.what} cannot be inside ${above.what}, which is a file`, 'mount them beside each other');
  let path = above.path;
  for (const [index, name] of rest.entries()) {
    path = join(path, name);
    const found = await lstat(path).catch(() => null);
    if (found?.isSymbolicLink() === true) return;
    const wanted = index === rest.length - 1 ? point.kind : 'directory';
    if (found === null) {
      if (!above.readonly) return;
      const hint = `make the ${wanted} ${path} on the host, or mount the volume writable`;
      throw invalid(
        `${point.what} needs a place in ${above.what}, which is read-only and has no ${wanted} ${rest.join('/')}`,
        hint,
      );
    }
    if (found.isDirectory() !== (wanted === 'directory')) {
      throw invalid(
        `${point.what} needs a ${wanted} in ${above.what}, and ${path} is none`,
        'mount it at another place in the box',
      );
    }
  }
}
