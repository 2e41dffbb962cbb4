// Checks after the start that the volumes of the box are the very directories that were allowed before it. The start of
// a box resolves each path first. When the runtime has mounted the volumes, this file compares the mounts with those
// paths, before any command runs in the box. If a directory was replaced by a link in between, the start fails.
import { readFile } from 'node:fs/promises';
import { BoxRunError } from '../../../../shared/errors.ts';

interface Mount {
  readonly device: string;
  /** The mounted directory, as a path in its file system. */
  readonly root: string;
  readonly mountPoint: string;
}

/**
 * @param pid a process in the box
 * @param hostPaths paths without links
 * @throws FORBIDDEN when one of the paths is not mounted in the mount namespace of that process
 */
export async function expectMounted(pid: number, hostPaths: readonly string[]): Promise<void> {
  if (hostPaths.length === 0) return;
  const [host, box] = await Promise.all(['self', pid].map((process) => readFile(`/proc/${process}/mountinfo`, 'utf8')));
  const missing = missingMounts(parseMounts(host ?? ''), parseMounts(box ?? ''), hostPaths);
  if (missing.length === 0) return;
  throw new BoxRunError(
    'FORBIDDEN',
    `${missing.join(', ')} changed during the start of the box: another directory than the checked one was mounted`,
    {
      hint: 'start the box again',
    },
  );
}

/** Returns those of `hostPaths` that are not among the box's mounts. */
export function missingMounts(host: readonly Mount[], box: readonly Mount[], hostPaths: readonly string[]): string[] {
  return hostPaths.filter((path) => {
    const wanted = sourceOf(host, path);
    return !box.some(({ device, root }) => device === wanted?.device && root === wanted.root);
  });
}

/**
 * Returns the device of `path` and its directory on that device. Of several mounts at the same place, the last one is
 * visible.
 */
function sourceOf(host: readonly Mount[], path: string): Pick<Mount, 'device' | 'root'> | null {
  const above = host.filter(
    ({ mountPoint }) => mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`),
  );
  const longest = Math.max(...above.map(({ mountPoint }) => mountPoint.length));
  const mount = above.findLast(({ mountPoint }) => mountPoint.length === longest);
  if (mount === undefined) return null;
  const rest = path.slice(mount.mountPoint === '/' ? 0 : mount.mountPoint.length);
  return { device: mount.device, root: `${mount.root === '/' ? '' : mount.root}${rest}` || '/' };
}

/** Reads lines of proc_pid_mountinfo(5) and decodes their octal escapes. */
export function parseMounts(text: string): Mount[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, , device = '', root = '', mountPoint = ''] = line.split(' ');
      return { device, root: unescaped(root), mountPoint: unescaped(mountPoint) };
    });
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}
