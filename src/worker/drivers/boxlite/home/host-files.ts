// The files and cgroups that a box of this engine has on the host: the home with its link to the shared images, the
// tools directory, the short socket links in /tmp. removeHome leaves none of them, except those that boxes share.
import {
  access,
  chmod,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  rmdir,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { findBusybox } from '../../../../shared/images/busybox.ts';
import { findProgram } from '../../programs.ts';

const engineCgroups = '/sys/fs/cgroup/boxlite';

/**
 * Makes the home with a link to the shared images, so that layers and disk images are built once for all boxes. The
 * engine wants the images on the same file system as the home.
 */
export async function prepareHome(homeDir: string, imagesDir: string): Promise<void> {
  const shared = join(imagesDir, 'boxlite');
  await mkdir(homeDir, { recursive: true, mode: 0o700 });
  await mkdir(shared, { recursive: true });
  const link = join(homeDir, 'images');
  if ((await readlink(link).catch(() => null)) === shared) return;
  await rm(link, { recursive: true, force: true });
  await symlink(shared, link);
}

/**
 * Makes the tools directory, which every box mounts read-only. It has the host's static busybox, and the agent if the
 * build has made one.
 * @returns the directory
 * @throws RUNTIME_ERROR when the host has no static busybox
 */
export async function prepareTools(imagesDir: string): Promise<string> {
  const dir = join(imagesDir, 'boxlite-tools');
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const agent = await findProgram('agent');
  await keepTool(await findBusybox(), dir, 'busybox');
  if (agent === null) await rm(join(dir, 'agent'), { force: true });
  else await keepTool(agent, dir, 'agent');
  return dir;
}

async function keepTool(source: string, dir: string, name: string): Promise<void> {
  const target = join(dir, name);
  const [wanted, present] = await Promise.all([readFile(source), readFile(target).catch(() => null)]);
  if (present?.equals(wanted) === true) return;
  // Two workers may do this at the same time, and boxes may have the old file open. So the file is replaced at once.
  const temporary = join(dir, `.${name}-${process.pid}`);
  await writeFile(temporary, wanted);
  await chmod(temporary, 0o755);
  await rename(temporary, target);
}

/** The path by which the engine binds the box's sockets. It is a short link, because a socket's path must be short. */
export function socketLink(engineId: string): string {
  return join(socketLinksDir(), engineId);
}

function socketLinksDir(): string {
  return `/tmp/bl-${process.getuid?.() ?? 0}`;
}

/**
 * Removes the cgroups that the engine makes for its VMs and never removes. Call it when no process of the box is left.
 */
export async function removeCgroups(homeDir: string): Promise<void> {
  for (const engineId of await readdir(join(homeDir, 'boxes')).catch(() => [])) {
    await rmdir(join(engineCgroups, engineId)).catch(() => undefined); // Most boxes have no cgroup.
  }
}

/**
 * Removes the home, its cgroups and its socket links. Files that boxes share stay. Call it when no process of the box
 * is left.
 */
export async function removeHome(homeDir: string): Promise<void> {
  await removeCgroups(homeDir);
  const linksDir = socketLinksDir();
  for (const name of await readdir(linksDir).catch(() => [])) {
    const link = join(linksDir, name);
    const target = await readlink(link).catch(() => '');
    if (target.startsWith(`${homeDir}/`)) await unlink(link).catch(() => undefined);
  }
  await rm(homeDir, { recursive: true, force: true });
}

/** True when the engine has a database in this home. */
export async function hasEngineRecords(homeDir: string): Promise<boolean> {
  return access(join(homeDir, 'db', 'boxlite.db')).then(
    () => true,
    () => false,
  );
}
