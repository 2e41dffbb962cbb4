// Volumes that are confined to certain directories of the host: where each one leads is looked up before the runtime
// mounts it, and what the runtime has mounted is compared with that afterwards, before any command runs in the box. A
// directory that was swapped for a link in between makes the start fail. Called by boot.ts.
import { readFile } from 'node:fs/promises';
import { BoxRunError } from '../../../../shared/errors.ts';

interface Mount {
  readonly device: string;
  /** Of the file system, the directory that is mounted. */
  readonly root: string;
  readonly mountPoint: string;
}

/**
 * @param hostPaths without links
 * @throws FORBIDDEN when one of them is not mounted in the mount namespace of process `pid`
 */
export async function expectMounted(pid: number, hostPaths: readonly string[]): Promise<void> {
  if (hostPaths.length === 0) return;
  const [host, box] = await Promise.all(['self', pid].map((process) => readFile(`/proc/${process}/mountinfo`, 'utf8')));
  const missing = missingMounts(parseMounts(host ?? ''), parseMounts(box ?? ''), hostPaths);
  if (missing.length === 0) return;
  throw new BoxRunError(
    'FORBIDDEN',
    `${missing.join(', ')} changed while the box was started, and was not mounted as it was checked`,
    {
      hint: 'start the box again',
    },
  );
}

export function missingMounts(host: readonly Mount[], box: readonly Mount[], hostPaths: readonly string[]): string[] {
  return hostPaths.filter((path) => {
    const wanted = sourceOf(host, path);
    return !box.some(({ device, root }) => device === wanted?.device && root === wanted.root);
  });
}

/**
 * The device and the directory on it that `path` is, by the mounts of the host; of several at one place the last is on
 * top.
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

/** Lines of proc_pid_mountinfo(5), with their octal escapes undone. */
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
