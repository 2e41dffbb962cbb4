// Copies files into a box and out of a box, as streams. A whole file is held in memory only if the caller asks for that
// (`bytes`, `text`), or if a browser cannot stream the body of a request.
import { BoxRunError, errorText } from '../shared/errors.ts';
import { joinBytes, readChunks, streamOf } from './byte-stream.ts';
import type { LocalFiles, PlatformBody, PlatformResponse } from './platform.ts';
import type { Transport } from './transport.ts';

/** The contents of an upload: bytes in any form. A string is the path of a local file (not in browsers). */
export type UploadSource = string | Uint8Array | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** A file that is being read from a box. Read it once, in one of these ways, or cancel `body`. */
export interface Download {
  /** In bytes; null if the server does not know it. */
  readonly size: number | null;
  /** The permission bits in the box; null if the server does not tell them. */
  readonly mode: number | null;
  /** When the file in the box was last changed; null if the server does not tell it. */
  readonly modified: Date | null;
  /** Fails with UNAVAILABLE if the connection is lost, with CANCELED if the signal of the call aborts. */
  readonly body: ReadableStream<Uint8Array>;
  /** The whole file, in memory. */
  bytes(): Promise<Uint8Array>;
  /** The whole file as UTF-8. */
  text(): Promise<string>;
  /**
   * Writes a local file. It appears at `path` only when it is complete. Missing directories are created.
   * @throws VALIDATION_ERROR in browsers, and when the file cannot be written
   */
  saveTo(path: string): Promise<void>;
}

/** What the file in the box gets. Without it, a file that exists keeps its mode, and a new one has 0644. */
export interface UploadAttributes {
  /** The permission bits, 0 to 0o7777. */
  readonly mode?: number | undefined;
  /** When the file was last changed, exact to the second. */
  readonly modified?: Date | undefined;
}

interface FileCall {
  readonly boxPath: string;
  /** In the box. */
  readonly path: string;
  readonly signal?: AbortSignal | undefined;
}

/** A download fails if no byte comes for this time, in milliseconds. */
const silenceMaxMs = 60_000;
const encoder = new TextEncoder();

/**
 * @throws VALIDATION_ERROR when a local file cannot be read; errors of other sources, unchanged; errors of the server
 * and the connection
 */
export async function uploadFile(
  transport: Transport,
  source: UploadSource,
  { boxPath, path, signal, mode, modified }: FileCall & UploadAttributes,
): Promise<void> {
  if (/\p{Surrogate}/u.test(path))
    throw new BoxRunError('VALIDATION_ERROR', 'the path contains half of a surrogate pair, so it is not valid Unicode');
  const boundary = `boxrun-${Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join('')}`;
  const part = (header: string) => `--${boundary}\r\nContent-Disposition: form-data; ${header}\r\n`;
  // The destination comes first, so that the server can pass the file on at once. Otherwise it would store the file
  // first.
  const about = [
    ...(mode === undefined ? [] : [`${part('name="mode"')}\r\n${mode.toString(8)}\r\n`]),
    ...(modified === undefined ? [] : [`${part('name="mtime"')}\r\n${Math.floor(modified.getTime() / 1000)}\r\n`]),
  ].join('');
  const head = encoder.encode(
    `${part('name="dest"')}\r\n${path}\r\n${about}${part('name="file"; filename="file"')}Content-Type: application/octet-stream\r\n\r\n`,
  );
  const tail = encoder.encode(`\r\n--${boundary}--\r\n`);
  const { content, headers, failure } = await contentOf(transport, source, [head, tail]);
  const contentType = `multipart/form-data; boundary=${boundary}`;
  try {
    await transport.json({
      ...{ method: 'POST', path: `${boxPath}/files/upload` },
      ...{ body: content, contentType, headers, signal },
    });
  } catch (error) {
    throw failure(error);
  }
}

interface Content {
  readonly content: Blob | AsyncIterable<Uint8Array>;
  /** The header with the length, if the source tells it. It lets the server choose the quicker way. */
  readonly headers: Readonly<Record<string, string>>;
  /** The error to report when the request has failed: that of the source, if the source has failed. */
  failure(error: unknown): unknown;
}

const nothing = new Uint8Array();

/**
 * The body of a request.
 * @param around bytes before and after those of the source
 */
export async function contentOf(
  { platform }: Pick<Transport, 'platform'>,
  source: UploadSource,
  [head, tail]: readonly [Uint8Array, Uint8Array] = [nothing, nothing],
): Promise<Content> {
  let failed: { readonly error: unknown } | null = null;
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield head;
    try {
      yield* chunksOf(source, platform.files);
    } catch (error) {
      failed = { error };
      throw error;
    }
    yield tail;
  }
  const blobParts = [head, tail] as [BlobPart, BlobPart];
  const bytes = ArrayBuffer.isView(source) ? source.byteLength : source instanceof Blob ? source.size : null;
  const isStreamed = platform.streamsRequests && bytes !== null;
  return {
    headers: isStreamed ? { 'content-length': String(head.length + bytes + tail.length) } : {},
    content: platform.streamsRequests
      ? chunks()
      : new Blob([blobParts[0], await blobOf(source, platform.files), blobParts[1]]),
    failure: (error) => (failed === null ? error : failed.error),
  };
}

async function* chunksOf(source: UploadSource, files: LocalFiles | null): AsyncGenerator<Uint8Array> {
  if (typeof source === 'string') yield* localFile(source, localFiles(files));
  else if (ArrayBuffer.isView(source))
    yield source; // `isView` and not `instanceof`: it also accepts arrays from another realm.
  else if (source instanceof Blob) yield* readChunks(source.stream());
  else yield* source;
}

/** @throws VALIDATION_ERROR when the file cannot be read */
async function* localFile(path: string, files: LocalFiles): AsyncGenerator<Uint8Array> {
  try {
    yield* files.read(path);
  } catch (error) {
    throw new BoxRunError('VALIDATION_ERROR', `the local file cannot be read: ${errorText(error)}`, {
      hint: 'a string is the path of a local file; to upload text, give its bytes: upload(new TextEncoder().encode(text), path)',
      cause: error,
    });
  }
}

/** Browsers cannot stream the body of a request. They may keep a Blob outside of memory. */
async function blobOf(source: UploadSource, files: LocalFiles | null): Promise<Blob> {
  if (source instanceof Blob) return source;
  const pieces: BlobPart[] = [];
  if (source instanceof ReadableStream) {
    // Some browsers cannot iterate over a stream.
    for await (const piece of readChunks(source)) pieces.push(new Uint8Array(piece));
  } else {
    for await (const piece of chunksOf(source, files)) pieces.push(new Uint8Array(piece));
  }
  return new Blob(pieces);
}

type BlobPart = Uint8Array<ArrayBuffer>;

export async function downloadFile(transport: Transport, { boxPath, path, signal }: FileCall): Promise<Download> {
  const response = await transport.send({
    method: 'POST',
    path: `${boxPath}/files/download`,
    json: { path },
    accept: 'application/octet-stream, application/json',
    signal,
  });
  return downloadOf(transport, response, signal);
}

/** What an answer says about the file, and its bytes. */
export function downloadOf(
  transport: Transport,
  response: PlatformResponse,
  signal: AbortSignal | undefined,
): Download {
  const length = response.headers.get('content-length');
  const mode = response.headers.get('x-boxrun-mode');
  const modified = response.headers.get('last-modified');
  const content = readDownload(transport, response.body, signal);
  return {
    size: length === null ? null : Number(length),
    mode: mode === null ? null : Number.parseInt(mode, 8),
    modified: modified === null ? null : new Date(modified),
    body: streamOf(content),
    bytes: async () => allOf(content),
    text: async () => new TextDecoder('utf-8', { ignoreBOM: true }).decode(await allOf(content)),
    async saveTo(localPath) {
      try {
        await localFiles(transport.platform.files).write(localPath, content);
      } catch (error) {
        if (error instanceof BoxRunError) throw error;
        throw new BoxRunError('VALIDATION_ERROR', `the local file cannot be written: ${errorText(error)}`, {
          hint: 'check the path, its permissions, and the room on the disk of this host',
          cause: error,
        });
      }
    },
  };
}

/** The bytes of an answer. @throws UNAVAILABLE if none comes for silenceMaxMs */
export async function* readDownload(
  transport: Transport,
  body: PlatformBody | null,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    yield* readChunks(body, silenceMaxMs);
  } catch (error) {
    throw transport.errorOf(error, signal);
  }
}

async function allOf(content: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of content) pieces.push(piece);
  return joinBytes(pieces);
}

/** @throws VALIDATION_ERROR in a browser */
export function localFiles(files: LocalFiles | null): LocalFiles {
  if (files === null)
    throw new BoxRunError('VALIDATION_ERROR', 'there are no local files in a browser', {
      hint: 'use a File, a Blob or a stream',
    });
  return files;
}
