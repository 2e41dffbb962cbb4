// The files of the dashboard, which the build has put next to the gateway. Each file is read once and then stays in
// memory, plain and compressed, because the files are few and small. An asset is read only if its name is in the list
// of the assets directory, so a request cannot name any other file.
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { BoxRunError } from '../../shared/errors.ts';

export interface UiFile {
  readonly type: string;
  readonly etag: string;
  readonly plain: Buffer;
  readonly gzipped: Buffer;
}

export interface UiFiles {
  /** The HTML page. @throws UNAVAILABLE when the dashboard was not built */
  page(): Promise<UiFile>;
  /** A script, style sheet or image by its name; null if it does not exist. */
  asset(name: string): Promise<UiFile | null>;
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** @param directory the directory of the built files, with a slash at its end */
export function createUiFiles(directory: URL): UiFiles {
  const files = new Map<string, Promise<UiFile>>();
  let assetNames: Promise<ReadonlySet<string>> | null = null;

  async function file(path: string): Promise<UiFile> {
    const known = files.get(path) ?? readUiFile(new URL(path, directory));
    files.set(path, known);
    known.catch(() => files.delete(path));
    return known;
  }

  return {
    async page() {
      try {
        return await file('index.html');
      } catch (error) {
        throw new BoxRunError('UNAVAILABLE', 'the dashboard is missing from this installation', {
          hint: 'run `npm run build`',
          cause: error,
        });
      }
    },
    async asset(name) {
      assetNames ??= readdir(new URL('assets/', directory)).then(
        (names) => new Set(names),
        () => new Set(),
      );
      return (await assetNames).has(name) ? file(`assets/${name}`) : null;
    },
  };
}

async function readUiFile(url: URL): Promise<UiFile> {
  const plain = await readFile(url);
  return {
    type: types[extname(url.pathname)] ?? 'application/octet-stream',
    etag: `"${createHash('sha256').update(plain).digest('base64url').slice(0, 22)}"`,
    plain,
    gzipped: await promisify(gzip)(plain, { level: 9 }),
  };
}
