// What the engine keeps on the host for a box, and how it all goes away: the home directory with its link to the shared
// images, the directory of tools that every box mounts, the short socket paths in /tmp. Called by driver.ts.
import {
  access,
  chmod,
  copyFile,
  mkdir,
  readdir,
  readlink,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  unlink,
} from 'node:fs/promises';
import { join } from 'node:path';
import { findBusybox } from '../../../../shared/images/busybox.ts';

const engineCgroups = '/sys/fs/cgroup/boxlite';

/**
 * Makes the home with its link to the shared images: layers and disk images are then built once for all boxes. The
 * engine wants them on one file system with the home.
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
 * The directory that every box mounts read-only: the host's static busybox, and nothing else.
 * @throws RUNTIME_ERROR when the host has none
 */
export async function prepareTools(imagesDir: string): Promise<string> {
  const dir = join(imagesDir, 'boxlite-tools');
  const target = join(dir, 'busybox');
  const source = await findBusybox();
  const [wanted, present] = await Promise.all([stat(source), stat(target).catch(() => null)]);
  if (present?.size === wanted.size && present.mtimeMs >= wanted.mtimeMs) return dir;
  await mkdir(dir, { recursive: true, mode: 0o755 });
  // Two workers may do so at once, and boxes may have the old file open.
  const temporary = join(dir, `.busybox-${process.pid}`);
  await copyFile(source, temporary);
  await chmod(temporary, 0o755);
  await rename(temporary, target);
  return dir;
}

/** Where the engine binds a box's sockets: a short link, since its own directory may be too long for one. */
export function socketLink(engineId: string): string {
  return join(socketLinksDir(), engineId);
}

function socketLinksDir(): string {
  return `/tmp/bl-${process.getuid?.() ?? 0}`;
}

/** Removes the cgroups that the engine makes for its VMs and never removes. No process of the box may be left. */
export async function removeCgroups(homeDir: string): Promise<void> {
  for (const engineId of await readdir(join(homeDir, 'boxes')).catch(() => [])) {
    await rmdir(join(engineCgroups, engineId)).catch(() => undefined); // Most often there is none.
  }
}

/** Removes everything of the home; what is shared with other boxes stays. No process of the box may be left. */
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

/** True when the engine has something in this home. */
export async function hasEngineRecords(homeDir: string): Promise<boolean> {
  return access(join(homeDir, 'db', 'boxlite.db')).then(
    () => true,
    () => false,
  );
}
