// The volumes of a create, checked before anything is made or pulled: their places in the box, their paths on the host,
// and what has to be there so that one can be mounted inside another. Asks the host only about paths that the server
// may mount.
import { lstat, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreateBoxBody, Volume } from '../../shared/api.ts';
import type { Config } from '../../shared/settings/config.ts';
import { resolveHostPath } from '../../shared/host/host-paths.ts';
import { byDepth, checkVolumePlaces, guestPlace, invalid, isBelow } from '../../shared/boxes/volume-places.ts';

/** Files that the container driver mounts into every box. A volume at such a place stands in for it. */
const ownFiles = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'];

interface Needed {
  readonly place: string;
  readonly kind: 'file' | 'directory';
  /** For the message: what stands there. */
  readonly what: string;
}

/**
 * Where volumes are confined, the box keeps the path to which its links lead now: swapped later, they change nothing.
 * @returns the volumes for the box's row
 * @throws VALIDATION_ERROR for what can never be mounted; RUNTIME_ERROR, FORBIDDEN for a path of the host
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
      // What has gone meanwhile, the start of the box finds missing.
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
  for (const needed of [...mounts, ...own]) {
    const above = byDepth(mounts, ({ place }) => place).findLast(({ place }) => holds(place, needed));
    if (above !== undefined) await checkInside(above, needed);
  }
  return volumeRoots.length === 0 ? [...volumes] : resolved.map(({ volume, path }) => ({ ...volume, host_path: path }));
}

function filesOfBox(mounts: readonly Needed[]): Needed[] {
  const places = ownFiles.filter((file) => !mounts.some(({ place }) => place === file));
  return places.map((place) => ({ place, kind: 'file', what: `the file ${place} of the box` }));
}

function holds(place: string, needed: Needed): boolean {
  return isBelow(needed.place, place) || (needed.what === ownDirectory && needed.place === place);
}

const ownDirectory = 'the working directory of the box';

function directoryOfBox(workdir: string): Needed {
  return { place: guestPlace(workdir), kind: 'directory', what: ownDirectory };
}

/**
 * Whether `needed` is there in the volume `above`, or can be made. A link leads where only the box knows: that is left
 * to the start.
 */
async function checkInside(
  above: Needed & { readonly path: string; readonly readonly: boolean },
  needed: Needed,
): Promise<void> {
  const rest = needed.place
    .slice(above.place.length)
    .split('/')
    .filter((name) => name !== '');
  if (above.kind === 'file')
    throw invalid(`${needed.what} cannot be inside ${above.what}, which is a file`, 'mount them beside each other');
  let path = above.path;
  for (const [index, name] of rest.entries()) {
    path = join(path, name);
    const found = await lstat(path).catch(() => null);
    if (found?.isSymbolicLink() === true) return;
    const wanted = index === rest.length - 1 ? needed.kind : 'directory';
    if (found === null) {
      if (!above.readonly) return;
      const hint = `make the ${wanted} ${path} on the host, or mount the volume writable`;
      throw invalid(
        `${needed.what} needs a place in ${above.what}, which is read-only and has no ${wanted} ${rest.join('/')}`,
        hint,
      );
    }
    if (found.isDirectory() !== (wanted === 'directory')) {
      throw invalid(
        `${needed.what} needs a ${wanted} in ${above.what}, and ${path} is none`,
        'mount it at another place in the box',
      );
    }
  }
}
