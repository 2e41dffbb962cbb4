// Where images stand below the images directory, and the one way a layout gets there: made in a temporary directory
// beside it, then renamed, so that whatever is there is whole. Used by the base image, the importer, the store and
// drivers.
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isAlive, processIdentity } from '../process/child-process.ts';
import { layoutDigest } from './oci-layout.ts';
import { encodeName } from './reference.ts';

/**
 * Followed by pid and start time of the process that makes the directory, so that what a killed one left can be told.
 */
const temporaryMark = '.incoming-';

export function imagePaths(imagesDir: string) {
  return {
    layouts: join(imagesDir, 'layouts'),
    layout: (canonicalName: string) => join(imagesDir, 'layouts', encodeName(canonicalName)),
    builtin: (name: string) => join(imagesDir, 'builtin', encodeName(name)),
  };
}

/** The digest of a layout that is there, or null. */
export async function installedDigest(layoutDir: string): Promise<string | null> {
  return layoutDigest(layoutDir).catch(() => null);
}

/**
 * Makes a directory whole or not at all. With `replace` false one that another process finished first is kept.
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

/** A fresh directory beside `target`, on the same file system; older ones that nobody finished are removed. */
export async function temporaryDirectory(imagesDir: string, target: string): Promise<string> {
  const parent = dirname(target);
  await mkdir(imagesDir, { recursive: true, mode: 0o700 });
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  const temporary = join(parent, await temporaryName());
  await mkdir(temporary);
  return temporary;
}

/** Renames a finished directory to its place. */
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
    // Two steps: a directory cannot be renamed onto one that is not empty.
    const old = join(dirname(target), await temporaryName());
    await rename(target, old).catch(() => undefined);
    await rm(old, { recursive: true, force: true });
  }
}

/** True for directories that are under way, or were left under way. */
export function isTemporary(path: string): boolean {
  return basename(path).startsWith(temporaryMark);
}

async function temporaryName(): Promise<string> {
  const self = await processIdentity(process.pid);
  return `${temporaryMark}${process.pid}-${self?.startTicks ?? 0}-${randomBytes(6).toString('hex')}`;
}

async function removeAbandoned(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const owner = /^\.incoming-(\d+)-(\d+)-/.exec(name);
    if (owner === null) continue;
    if (await isAlive({ pid: Number(owner[1]), startTicks: Number(owner[2]) })) continue;
    await rm(join(parent, name), { recursive: true, force: true });
  }
}

/** True when a directory that is only ever made by `moveInto` is there. */
export async function installedDirectory(dir: string): Promise<boolean> {
  return (await stat(dir).catch(() => null))?.isDirectory() ?? false;
}
