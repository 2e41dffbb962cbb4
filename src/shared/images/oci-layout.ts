// Directories in the OCI image layout (image-spec 1.0): reads the image for this host from one, and writes new ones.
// Every blob that is copied is checked against its digest.
import { createHash, type Hash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { userProblem } from '../boxes/box-user.ts';
import { BoxRunError, errorText } from '../errors.ts';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly architecture?: string; readonly os?: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Manifest {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** The part of an image's configuration that a box uses. */
export interface ImageConfig {
  readonly env: readonly string[];
  readonly user: string;
}

export interface LayoutImage extends Descriptor {
  readonly manifest: Manifest;
  readonly config: ImageConfig;
  /** The whole configuration, as it is in its file. */
  readonly rawConfig: RawConfig;
  /** True if `markPlain` was called for this layout. */
  readonly isPlain: boolean;
}

export const layerTypes = {
  plain: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;
/**
 * An annotation in the index of a layout. It says that all layers are plain: no holes, no owners above boxIdMax,
 * compressed with gzip or not at all (plain-layers.ts).
 */
const plainMark = 'boxrun.layers.plain';
export const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const indexTypes = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]);
const jsonBytesMax = 4 * 1024 * 1024;
const indexDepthMax = 4;

/** The architecture of this host, as OCI names it. */
export function hostArchitecture(): string {
  const name = arch();
  return name === 'x64' ? 'amd64' : name;
}

/**
 * Reads the image for this host. A layout with two of them is refused.
 * @throws VALIDATION_ERROR if the directory is no layout or is damaged, if it has several images or none for this host,
 *   or if the user of the image has an id above boxIdMax
 */
export async function readLayout(dir: string): Promise<LayoutImage> {
  const index = await readJson<{ manifests?: Descriptor[] }>(join(dir, 'index.json'));
  const found = await candidates(dir, index.manifests ?? [], 0);
  if (found.length === 0) throw invalid(`${dir} holds no image for ${hostArchitecture()}`);
  const digests = new Set(found.map((image) => image.digest));
  if (digests.size > 1) {
    throw invalid(`${dir} holds ${digests.size} images`, 'export one image only');
  }
  const image = found[0] as LayoutImage;
  const problem = userProblem(image.config.user);
  if (problem !== null)
    throw invalid(`the image's user '${image.config.user}' ${problem}`, 'build it with another USER');
  return image;
}

async function candidates(dir: string, descriptors: readonly Descriptor[], depth: number): Promise<LayoutImage[]> {
  if (depth > indexDepthMax) throw invalid(`${dir}: image indexes are nested too deep`);
  const images: LayoutImage[] = [];
  for (const descriptor of descriptors) {
    const platform = descriptor.platform;
    // Attestations of a build look like images of the platform unknown/unknown.
    if (platform?.architecture !== undefined && platform.architecture !== hostArchitecture()) continue;
    if (indexTypes.has(descriptor.mediaType)) {
      const nested = await readBlob<{ manifests?: Descriptor[] }>(dir, descriptor.digest);
      images.push(...(await candidates(dir, nested.manifests ?? [], depth + 1)));
      continue;
    }
    const manifest = await readBlob<Manifest>(dir, descriptor.digest);
    if (!Array.isArray(manifest.layers) || typeof manifest.config?.digest !== 'string') {
      throw invalid(`${dir}: ${descriptor.digest} is not an image manifest`);
    }
    const rawConfig = await readBlob<RawConfig>(dir, manifest.config.digest);
    const { architecture = 'unknown', os = 'linux' } = rawConfig;
    if (architecture !== hostArchitecture() || os !== 'linux') {
      if (descriptors.length > 1) continue;
      throw invalid(`the image is for ${os} on ${architecture}; boxes here are linux on ${hostArchitecture()}`);
    }
    const config = toImageConfig(rawConfig);
    const isPlain = descriptor.annotations?.[plainMark] !== undefined;
    images.push({
      digest: descriptor.digest,
      size: descriptor.size,
      mediaType: descriptor.mediaType,
      manifest,
      config,
      rawConfig,
      isPlain,
    });
  }
  return images;
}

interface RawConfig {
  readonly architecture?: string;
  readonly os?: string;
  readonly config?: { readonly Env?: string[] | null; readonly User?: string | null } | null;
  readonly rootfs?: { readonly type?: string; readonly diff_ids?: readonly string[] };
}

/** @throws VALIDATION_ERROR if a field that a box uses does not have the type of the specification */
function toImageConfig(raw: RawConfig): ImageConfig {
  const env: unknown = raw.config?.Env ?? [];
  const user: unknown = raw.config?.User ?? '';
  if (!Array.isArray(env) || !env.every(isText))
    throw invalid("the Env of the image's configuration is not a list of strings");
  if (!isText(user)) throw invalid("the User of the image's configuration is not a string");
  return { env, user };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && !value.includes('\0');
}

/**
 * The path of a blob. The form of the digest is checked, because the digest may come from a file of another program.
 * @throws VALIDATION_ERROR if it is not a sha256 digest
 */
export function blobPath(dir: string, digest: string): string {
  const match = /^sha256:([0-9a-f]{64})$/.exec(digest);
  if (match?.[1] === undefined) throw invalid(`'${digest}' is not a sha256 digest`);
  return join(dir, 'blobs', 'sha256', match[1]);
}

async function readBlob<T>(dir: string, digest: string): Promise<T> {
  return readJson<T>(blobPath(dir, digest));
}

async function readJson<T>(path: string): Promise<T> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size > jsonBytesMax) throw new Error(`it has ${size} bytes, and ${jsonBytesMax} are allowed`);
      return JSON.parse(await file.readFile('utf8')) as T;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw invalid(`cannot read ${path}: ${errorText(error)}`);
  }
}

/** Makes an empty layout in `dir`. */
export async function beginLayout(dir: string): Promise<void> {
  await mkdir(join(dir, 'blobs', 'sha256'), { recursive: true });
  await writeFile(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}

/** Stores bytes as a blob. */
export async function writeBlob(dir: string, mediaType: string, content: Buffer | string): Promise<Descriptor> {
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
  await writeFile(blobPath(dir, digest), content);
  return { mediaType, digest, size: Buffer.byteLength(content) };
}

/** Stores a stream as a blob. The bytes of `source` pass through all `stages` first. */
export async function writeBlobFrom(
  dir: string,
  mediaType: string,
  stages: NodeJS.ReadWriteStream[],
  source: NodeJS.ReadableStream,
  signal?: AbortSignal,
): Promise<Descriptor> {
  const meter = createMeter();
  const temporary = join(dir, 'blobs', 'incoming');
  await pipeline(
    [source, ...stages, meter.stream, createWriteStream(temporary)],
    signal === undefined ? {} : { signal },
  );
  const digest = `sha256:${meter.hash.digest('hex')}`;
  await rename(temporary, blobPath(dir, digest));
  return { mediaType, digest, size: meter.size() };
}

/** Makes a stream that passes bytes on unchanged, counts them and computes their SHA-256. */
export function createMeter(): { stream: Transform; hash: Hash; size: () => number } {
  const hash = createHash('sha256');
  let size = 0;
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      size += chunk.length;
      done(null, chunk);
    },
  });
  return { stream, hash, size: () => size };
}

/** Writes configuration, manifest and index of an image whose layers are stored. Returns the digest of the manifest. */
export async function finishLayout(
  dir: string,
  layers: readonly Descriptor[],
  diffIds: readonly string[],
  env: readonly string[],
): Promise<string> {
  return finishLayoutOf(
    dir,
    { architecture: hostArchitecture(), os: 'linux', config: { Env: [...env] } },
    layers,
    diffIds,
  );
}

/** As `finishLayout`, with the configuration of an existing image, which gets new layers. */
export async function finishLayoutOf(
  dir: string,
  raw: RawConfig,
  layers: readonly Descriptor[],
  diffIds: readonly string[],
): Promise<string> {
  const config = await writeBlob(
    dir,
    'application/vnd.oci.image.config.v1+json',
    JSON.stringify({ ...raw, rootfs: { type: 'layers', diff_ids: diffIds } }),
  );
  const manifest = await writeBlob(
    dir,
    manifestType,
    JSON.stringify({ schemaVersion: 2, mediaType: manifestType, config, layers }),
  );
  await writeIndex(dir, manifest);
  return manifest.digest;
}

async function writeIndex(dir: string, { mediaType, digest, size }: Descriptor, isPlain = false): Promise<void> {
  const entry = {
    mediaType,
    digest,
    size,
    platform: { architecture: hostArchitecture(), os: 'linux' },
    annotations: { 'org.opencontainers.image.ref.name': 'latest', ...(isPlain ? { [plainMark]: '1' } : {}) },
  };
  await writeFile(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
}

/** Marks the layers of this layout as plain, so that they need no further check. */
export async function markPlain(dir: string): Promise<void> {
  await writeIndex(dir, await readLayout(dir), true);
}

/**
 * Copies the image for this host, and nothing else, from one layout to a new one. Returns its digest.
 * @throws VALIDATION_ERROR if a blob is missing or does not have its digest
 */
export async function copyLayout(fromDir: string, toDir: string): Promise<string> {
  const image = await readLayout(fromDir);
  await beginLayout(toDir);
  const blobs = [{ digest: image.digest }, image.manifest.config, ...image.manifest.layers];
  for (const { digest } of blobs) {
    const source = createReadStream(blobPath(fromDir, digest));
    const copied = await writeBlobFrom(toDir, '', [], source).catch((error: unknown) => {
      throw invalid(`cannot copy ${digest}: ${errorText(error)}`);
    });
    if (copied.digest !== digest) throw invalid(`the content of ${digest} is damaged: it is ${copied.digest}`);
  }
  // The size in an index of another tool may be wrong.
  const { size } = await stat(blobPath(toDir, image.digest));
  await writeIndex(toDir, { mediaType: image.mediaType, digest: image.digest, size });
  return image.digest;
}

/** The digest of the manifest of a layout that BoxRun has made. It reads only the index. */
export async function layoutDigest(dir: string): Promise<string> {
  const index = JSON.parse(await readFile(join(dir, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
  const digest = index.manifests[0]?.digest;
  if (digest === undefined) throw invalid(`${dir} holds no image`);
  return digest;
}

function invalid(message: string, hint?: string): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', message, hint === undefined ? {} : { hint });
}
