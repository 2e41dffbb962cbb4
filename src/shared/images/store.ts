// The images of a state directory: finds the image that a request means, lists the imported images and removes them.
// This file never uses the network.
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Images } from '../api.ts';
import { BoxRunError } from '../errors.ts';
import { baseImageName, ensureBaseImage } from './base.ts';
import { imagePaths, installedDigest, isTemporary } from './layouts.ts';
import { decodeName, localName, parseReference, tryLocalName } from './reference.ts';
import { imageAliases, type ImageSource } from './source.ts';

export interface ImportedImage {
  readonly name: string;
  readonly digest: string;
  readonly bytes: number;
  /** In the form of RFC 3339. */
  readonly importedAt: string;
}

/**
 * The image that a name means. The first match counts: an imported image with this name, `base`, the target of an alias
 * (imported or in a registry), a reference to a registry.
 * @throws IMAGE_PULL_FAILED if the name is not a valid reference either
 */
export async function resolveImage(imagesDir: string, requested: string): Promise<ImageSource> {
  const local = await findImported(imagesDir, requested);
  if (local !== null) return local;
  if (requested === baseImageName) {
    const base = await ensureBaseImage(imagesDir);
    return { kind: 'layout', name: baseImageName, ...base };
  }
  const target = Object.hasOwn(imageAliases, requested) ? (imageAliases[requested] as string) : requested;
  if (target !== requested) {
    const aliased = await findImported(imagesDir, target);
    if (aliased !== null) return aliased;
  }
  parseReference(target);
  return { kind: 'registry', reference: target };
}

async function findImported(imagesDir: string, requested: string): Promise<ImageSource | null> {
  const name = tryLocalName(requested);
  if (name === null) return null;
  const layoutDir = imagePaths(imagesDir).layout(name);
  const digest = await installedDigest(layoutDir);
  return digest === null ? null : { kind: 'layout', name, layoutDir, digest };
}

/** The imported images, sorted by the names of their directories. */
export async function listImages(imagesDir: string): Promise<ImportedImage[]> {
  const { layouts } = imagePaths(imagesDir);
  const entries = await readdir(layouts).catch(() => []);
  const images: ImportedImage[] = [];
  for (const entry of entries.sort()) {
    if (isTemporary(entry)) continue;
    const dir = join(layouts, entry);
    const digest = await installedDigest(dir);
    if (digest === null) continue;
    const { mtime } = await stat(join(dir, 'index.json'));
    images.push({ name: decodeName(entry), digest, bytes: await blobBytes(dir), importedAt: mtime.toISOString() });
  }
  return images;
}

/** The images that a host knows by name, as clients of the API see them. */
export async function knownImages(imagesDir: string): Promise<Images> {
  const imported = await listImages(imagesDir);
  return {
    images: [
      ...imported.map(({ name, bytes, digest, importedAt }) => ({ name, bytes, digest, imported_at: importedAt })),
      { name: baseImageName, bytes: null, digest: null, imported_at: null },
    ],
    aliases: imageAliases,
  };
}

async function blobBytes(dir: string): Promise<number> {
  const blobs = join(dir, 'blobs', 'sha256');
  let bytes = 0;
  for (const blob of await readdir(blobs)) bytes += (await stat(join(blobs, blob))).size;
  return bytes;
}

/**
 * Removes an imported image. Boxes that were made from it keep their disks.
 * @throws NOT_FOUND if there is no image with this name, VALIDATION_ERROR if it cannot be a name
 */
export async function removeImage(imagesDir: string, requested: string): Promise<void> {
  const layoutDir = imagePaths(imagesDir).layout(localName(requested));
  if ((await installedDigest(layoutDir)) === null) {
    throw new BoxRunError('NOT_FOUND', `there is no imported image '${requested}'`);
  }
  await rm(layoutDir, { recursive: true, force: true });
}
