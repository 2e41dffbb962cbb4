// Archives of images: those that a user imports, and the layers of any image. Finds out the compression and the kind,
// and decompresses. Both depend on the content, never on the name of the file. An archive is read as a stream, and no
// path in it is trusted.
import { closeSync, createReadStream, mkdirSync, openSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Writable, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { startFilter } from '../process/child-process.ts';
import { BoxRunError, errorText } from '../errors.ts';
import { createTarWalker } from './tar.ts';

type ArchiveKind = 'oci' | 'docker' | 'rootfs';

const magics: ReadonlyArray<readonly [name: 'gzip' | 'xz' | 'zstd', bytes: string]> = [
  ['gzip', '1f8b'],
  ['xz', 'fd377a585a00'],
  ['zstd', '28b52ffd'],
];
const packages = { xz: 'xz-utils', zstd: 'zstd' } as const;

/** Directories at the top of a root file system. No archive of an image has one of them at its top. */
const rootDirectories = new Set(
  'bin boot dev etc home lib lib32 lib64 media mnt opt proc root run sbin srv sys tmp usr var'.split(' '),
);

/** The bytes of the archive without compression. Errors in it become errors of the stream. */
export async function openArchive(path: string): Promise<Readable> {
  const file = createReadStream(path);
  const compression = await compressionOf(path);
  if (compression === null) return file;
  if (compression === 'gzip') return forwardErrors(file, createGunzip());
  const child = startFilter(compression, ['-dc']);
  child.once('error', () => {
    child.stdout.destroy(
      invalid(
        `${path} is compressed with ${compression}, which is not on this host`,
        `install the package ${packages[compression]}`,
      ),
    );
  });
  child.once('exit', (code) => {
    if (code !== 0) child.stdout.destroy(invalid(`${path} cannot be decompressed: ${compression} says it is damaged`));
  });
  child.stdin.on('error', () => undefined); // The program has ended early. Its exit code is handled above.
  child.stdout.once('close', () => {
    child.kill('SIGKILL');
    file.destroy();
  });
  file.pipe(child.stdin);
  return child.stdout;
}

function forwardErrors(source: Readable, through: ReturnType<typeof createGunzip>): Readable {
  source.once('error', (error) => through.destroy(error));
  through.once('close', () => source.destroy());
  return source.pipe(through);
}

export async function compressionOf(path: string): Promise<'gzip' | 'xz' | 'zstd' | null> {
  const file = await open(path, 'r');
  try {
    const head = Buffer.alloc(6);
    await file.read(head, 0, head.length, 0);
    const hex = head.toString('hex');
    return magics.find(([, magic]) => hex.startsWith(magic))?.[0] ?? null;
  } finally {
    await file.close();
  }
}

/**
 * The kind of an archive. It stops reading as soon as the kind is known.
 * @throws VALIDATION_ERROR if the file is no tar, or an empty one
 */
export async function classifyArchive(path: string): Promise<ArchiveKind> {
  const seen = new Set<string>();
  const enough = new AbortController();
  let isRoot = false;
  const walker = createTarWalker((entry) => {
    const [top = ''] = cleanPath(entry.path).split('/');
    if (top !== '') seen.add(top);
    if (rootDirectories.has(top)) {
      isRoot = true;
      enough.abort();
    }
    return undefined;
  });
  try {
    await pipeline(await openArchive(path), walker, discard(), { signal: enough.signal });
  } catch (error) {
    if (!isRoot) throw notAnImage(path, error);
  }
  if (isRoot) return 'rootfs';
  if (seen.has('oci-layout') && seen.has('index.json')) return 'oci';
  if (seen.has('manifest.json')) return 'docker';
  if (seen.size === 0) throw invalid(`${path} is an empty archive`);
  return 'rootfs';
}

/**
 * Extracts the files of an OCI layout, and nothing else, from an archive to `dir`.
 * @throws VALIDATION_ERROR if the archive cannot be read
 */
export async function extractLayout(path: string, dir: string): Promise<void> {
  let current: number | null = null;
  const close = () => {
    if (current !== null) closeSync(current);
    current = null;
  };
  const walker = createTarWalker((entry) => {
    close();
    const name = cleanPath(entry.path);
    const isOfLayout = /^(?:oci-layout|index\.json|blobs\/sha256\/[0-9a-f]{64})$/.test(name);
    // '0' and '7' (contiguous) are ordinary files.
    if (!isOfLayout || (entry.type !== '0' && entry.type !== '7')) return undefined;
    const target = join(dir, name);
    mkdirSync(dirname(target), { recursive: true });
    const fd = openSync(target, 'w', 0o600);
    current = fd;
    return (chunk) => {
      for (let at = 0; at < chunk.length;) at += writeSync(fd, chunk, at);
    };
  });
  try {
    await pipeline(await openArchive(path), walker, discard());
  } catch (error) {
    throw notAnImage(path, error);
  } finally {
    close();
  }
}

/** Makes a stream that passes an archive on unchanged. It fails if an entry has `..` in its path. */
export function createRootfsCheck() {
  return createTarWalker((entry) => {
    if (entry.path.split('/').includes('..')) {
      throw invalid(`the archive has an entry with '..' in its path: ${entry.path.slice(0, 200)}`);
    }
    return undefined;
  });
}

/** The VALIDATION_ERROR for a file that cannot be read as an image. */
export function notAnImage(path: string, error: unknown): BoxRunError {
  if (error instanceof BoxRunError) return error;
  return invalid(`${path} is not an image: ${errorText(error)}`);
}

function cleanPath(path: string): string {
  return path.replace(/^(?:\.?\/)+/, '').replace(/^\.$/, '');
}

function discard(): Writable {
  return new Writable({
    write(_chunk, _encoding, done) {
      done();
    },
  });
}

function invalid(
  message: string,
  hint = 'OCI layouts, docker-save archives and root file system tars can be imported',
): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', message, { hint });
}
