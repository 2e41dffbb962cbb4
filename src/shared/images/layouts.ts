// The paths of images below the images directory, and the way to install an image or another directory (a template
// home, a disk, tools): it is made in a temporary directory and then renamed. So a directory under its final name is
// always complete.
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isAlive, processIdentity } from '../process/child-process.ts';
import { layoutDigest } from './oci-layout.ts';
import { encodeName } from './reference.ts';

/**
 * Begins the name of a temporary directory. Pid and start time of the process follow, so that another process can tell
 * whether this process still lives.
 */
const temporaryMark = '.incoming-';

export function imagePaths(imagesDir: string) {
  return {
    layouts: join(imagesDir, 'layouts'),
    layout: (canonicalName: string) => join(imagesDir, 'layouts', encodeName(canonicalName)),
    builtin: (name: string) => join(imagesDir, 'builtin', encodeName(name)),
  };
}

/** The digest of an installed layout, or null if there is none. */
export async function installedDigest(layoutDir: string): Promise<string | null> {
  return layoutDigest(layoutDir).catch(() => null);
}

/**
 * Installs a layout. It is complete, or not installed.
 * @param options.replace false: if another process has installed it first, that one is kept
 * @param make fills the temporary directory
 */
export async function installLayout(
  imagesDir: string,
  target: string,
  options: { replace: boolean },
  make: (dir: string) => Promise<void>,
): Promise<void> {
  const temporary = await temporaryDirectory(imagesDir, target);
  try {
    await make(temporary);
    await moveInto(temporary, target, options.replace);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Makes an empty directory next to `target`, and removes temporary directories of processes that have died. */
export async function temporaryDirectory(imagesDir: string, target: string): Promise<string> {
  const parent = dirname(target);
  await mkdir(imagesDir, { recursive: true, mode: 0o700 });
  await mkdir(parent, { recursive: true });
  await removeLeftovers(parent);
  const temporary = join(parent, await temporaryName());
  await mkdir(temporary);
  return temporary;
}

/** Renames a complete directory to its final name. `replace`: as in `installLayout`. */
export async function moveInto(temporary: string, target: string, replace: boolean): Promise<void> {
  for (;;) {
    try {
      await rename(temporary, target);
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
    }
    if (!replace) return;
    // Two steps, because a directory cannot be renamed onto one that is not empty.
    const old = join(dirname(target), await temporaryName());
    await rename(target, old).catch(() => undefined);
    await rm(old, { recursive: true, force: true });
  }
}

/** True if the name is that of a temporary directory. */
export function isTemporary(path: string): boolean {
  return basename(path).startsWith(temporaryMark);
}

async function temporaryName(): Promise<string> {
  const self = await processIdentity(process.pid);
  return `${temporaryMark}${process.pid}-${self?.startTicks ?? 0}-${randomBytes(6).toString('hex')}`;
}

async function removeLeftovers(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const owner = /^\.incoming-(\d+)-(\d+)-/.exec(name);
    if (owner === null) continue;
    if (await isAlive({ pid: Number(owner[1]), startTicks: Number(owner[2]) })) continue;
    await rm(join(parent, name), { recursive: true, force: true });
  }
}

/** True if the directory exists. Only for targets of `moveInto`: if such a directory exists, it is complete. */
export async function installedDirectory(dir: string): Promise<boolean> {
  return (await stat(dir).catch(() => null))?.isDirectory() ?? false;
}
