// Makes the layers of an image plain, so that both drivers and their unpackers can read them: gzip or no compression,
// no files with holes, no owners that a box does not have. A plain layer is not changed. Each layer is checked against
// its digest in the image's configuration.
import { createHash } from 'node:crypto';
import { copyFile, link, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { boxIdMax } from '../boxes/box-user.ts';
import { BoxRunError, errorText } from '../errors.ts';
import { compressionOf, openArchive } from './archive.ts';
import {
  beginLayout,
  blobPath,
  createMeter,
  finishLayoutOf,
  layerTypes,
  manifestType,
  markPlain,
  readLayout,
  writeBlobFrom,
  type Descriptor,
  type LayoutImage,
} from './oci-layout.ts';
import { nobodyId, noFindings, plainTar, type TarFindings } from './plain-tar.ts';

interface CheckedLayer {
  readonly descriptor: Descriptor;
  readonly diffId: string;
  readonly isPlain: boolean;
  readonly findings: TarFindings;
}

export interface PlainLayout {
  /** The layout to unpack: the original one if its layers are plain, else the new one. */
  readonly dir: string;
  /** Texts for the user. */
  readonly warnings: readonly string[];
}

/**
 * Checks the layers of the image in `dir`. If they are not plain, makes a layout of the same image with plain layers in
 * `toDir`.
 * @throws VALIDATION_ERROR if no box can use the layers, CANCELED when `signal` aborts
 */
export async function plainLayout(dir: string, toDir: string, signal?: AbortSignal): Promise<PlainLayout> {
  try {
    return await checkAndMake(dir, toDir, signal);
  } catch (error) {
    if (signal?.aborted) throw new BoxRunError('CANCELED', 'canceled while the layers of an image were checked');
    throw error;
  }
}

async function checkAndMake(dir: string, toDir: string, signal: AbortSignal | undefined): Promise<PlainLayout> {
  const image = await readLayout(dir);
  if (image.isPlain) return { dir, warnings: [] };
  const layers = await checkLayers(dir, image, signal);
  const warnings = layers.flatMap(({ findings }) => warningsOf(findings));
  if (image.mediaType === manifestType && layers.every(({ isPlain }) => isPlain)) return { dir, warnings };
  await beginLayout(toDir);
  const made: { descriptor: Descriptor; diffId: string }[] = [];
  for (const layer of layers) {
    made.push(layer.isPlain ? await keepLayer(dir, toDir, layer) : await makeLayerPlain(dir, toDir, layer, signal));
  }
  const descriptors = made.map(({ descriptor }) => descriptor);
  await finishLayoutOf(
    toDir,
    image.rawConfig,
    descriptors,
    made.map(({ diffId }) => diffId),
  );
  return { dir: toDir, warnings };
}

/** Makes the layers of the layout in `dir` plain, in the same directory. Returns warnings; throws as `plainLayout`. */
export async function makeLayoutPlain(dir: string): Promise<readonly string[]> {
  const other = join(dir, 'plain');
  const plain = await plainLayout(dir, other);
  if (plain.dir === other) {
    for (const name of ['blobs', 'index.json', 'oci-layout']) {
      await rm(join(dir, name), { recursive: true });
      await rename(join(other, name), join(dir, name));
    }
  }
  await rm(other, { recursive: true, force: true });
  await markPlain(dir);
  return plain.warnings;
}

async function checkLayers(dir: string, image: LayoutImage, signal: AbortSignal | undefined): Promise<CheckedLayer[]> {
  const diffIds = image.rawConfig.rootfs?.diff_ids ?? [];
  const { layers } = image.manifest;
  if (diffIds.length !== layers.length) {
    throw refused(`the image has ${layers.length} layers, and its configuration names ${diffIds.length}`);
  }
  const checked: CheckedLayer[] = [];
  for (const [index, descriptor] of layers.entries()) {
    checked.push(await checkLayer(dir, descriptor, diffIds[index] as string, signal));
  }
  return checked;
}

async function checkLayer(
  dir: string,
  descriptor: Descriptor,
  diffId: string,
  signal: AbortSignal | undefined,
): Promise<CheckedLayer> {
  const path = blobPath(dir, descriptor.digest);
  const findings = noFindings();
  const hash = createHash('sha256');
  const compression = await compressionOf(path);
  try {
    const archive = await openArchive(path);
    for await (const piece of plainTar(hashed(archive, hash), findings)) {
      void piece;
      signal?.throwIfAborted();
    }
  } catch (error) {
    throw error instanceof BoxRunError
      ? error
      : refused(`layer ${descriptor.digest} cannot be used: ${errorText(error)}`);
  }
  const digest = `sha256:${hash.digest('hex')}`;
  if (digest !== diffId) {
    throw refused(
      `the content of layer ${descriptor.digest} is damaged: it is ${digest}, and the image says ${diffId}`,
    );
  }
  const expected = compression === null ? layerTypes.plain : compression === 'gzip' ? layerTypes.gzip : null;
  const hasType = descriptor.mediaType === expected;
  const isPlain = hasType && findings.sparse + findings.foreign + findings.globals === 0;
  return { descriptor, diffId, findings, isPlain };
}

async function* hashed(archive: Readable, hash: ReturnType<typeof createHash>): AsyncGenerator<Buffer> {
  for await (const chunk of archive as AsyncIterable<Buffer>) {
    hash.update(chunk);
    yield chunk;
  }
}

async function keepLayer(dir: string, toDir: string, layer: CheckedLayer): Promise<CheckedLayer> {
  const [from, to] = [blobPath(dir, layer.descriptor.digest), blobPath(toDir, layer.descriptor.digest)];
  await link(from, to).catch(() => copyFile(from, to));
  return layer;
}

async function makeLayerPlain(
  dir: string,
  toDir: string,
  { descriptor }: CheckedLayer,
  signal: AbortSignal | undefined,
) {
  const archive = await openArchive(blobPath(dir, descriptor.digest));
  const content = createMeter();
  // Level 1 is fast. The layer is written once and read once, so its size matters less.
  const stages = [content.stream, createGzip({ level: 1 })];
  const source = Readable.from(plainTar(archive as AsyncIterable<Buffer>, noFindings()), { objectMode: false });
  const made = await writeBlobFrom(toDir, layerTypes.gzip, stages, source, signal);
  return { descriptor: made, diffId: `sha256:${content.hash.digest('hex')}` };
}

function warningsOf({ foreign, firstForeign }: TarFindings): string[] {
  if (firstForeign === null) return [];
  const { path, id } = firstForeign;
  const which = foreign === 1 ? `${path} has` : `${foreign} files (the first is ${path}) have`;
  const belong = foreign === 1 ? 'it belongs' : 'they belong';
  return [`${which} an owner above ${boxIdMax} (${id}); in a box ${belong} to nobody (${nobodyId})`];
}

function refused(message: string): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', message, { hint: 'build or export the image again' });
}
