// Files into a box and out of it, as streams. Called by client.ts; a file is never held in memory as a whole, but where
// its reader asks for that, or a browser can send it in no other way.
import { BoxRunError } from '../shared/errors.ts';
import { joinBytes, readChunks, streamOf } from './byte-stream.ts';
import type { LocalFiles, PlatformBody } from './platform.ts';
import type { Transport } from './transport.ts';

/** What is uploaded: bytes in any form; a string is the path of a local file (not in browsers). */
export type UploadSource = string | Uint8Array | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** A file on its way out of a box. Read it once, in one of these ways, or cancel `body`. */
export interface Download {
  /** Bytes; null when the server does not know. */
  readonly size: number | null;
  /** Errors with UNAVAILABLE when the connection is lost, with CANCELED when the call's signal aborts. */
  readonly body: ReadableStream<Uint8Array>;
  /** The whole file, in memory. */
  bytes(): Promise<Uint8Array>;
  /** The whole file as UTF-8. */
  text(): Promise<string>;
  /**
   * Writes a local file; it appears under `path` only when it is complete. Missing directories are made.
   * @throws VALIDATION_ERROR in browsers
   */
  saveTo(path: string): Promise<void>;
}

interface FileCall {
  readonly boxPath: string;
  /** In the box. */
  readonly path: string;
  readonly signal?: AbortSignal | undefined;
}

/** A download under way is given up after so much silence (milliseconds). */
const silenceMaxMs = 60_000;
const encoder = new TextEncoder();

/** @throws what reading `source` throws, as it is, besides errors of the server and the connection */
export async function uploadFile(
  transport: Transport,
  source: UploadSource,
  { boxPath, path, signal }: FileCall,
): Promise<void> {
  if (/\p{Surrogate}/u.test(path))
    throw new BoxRunError('VALIDATION_ERROR', 'the path has half of a surrogate pair, which is no character');
  const { platform } = transport;
  const boundary = `boxrun-${Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join('')}`;
  const part = (header: string) => `--${boundary}\r\nContent-Disposition: form-data; ${header}\r\n`;
  // The server needs the destination before the first byte of the file.
  const head = encoder.encode(
    `${part('name="dest"')}\r\n${path}\r\n${part('name="file"; filename="file"')}Content-Type: application/octet-stream\r\n\r\n`,
  );
  const tail = encoder.encode(`\r\n--${boundary}--\r\n`);
  let failure: { readonly error: unknown } | null = null;
  const onFailure = (error: unknown) => {
    failure = { error };
  };
  const body = platform.streamsRequests
    ? chunksBetween(head, chunksOf(source, platform.files), tail, onFailure)
    : new Blob([head, await blobOf(source, platform.files), tail]);
  const contentType = `multipart/form-data; boundary=${boundary}`;
  try {
    await transport.json({ method: 'POST', path: `${boxPath}/files/upload`, body, contentType, signal });
  } catch (error) {
    throw failure === null ? error : (failure as { readonly error: unknown }).error;
  }
}

async function* chunksBetween(
  head: Uint8Array,
  content: AsyncIterable<Uint8Array>,
  tail: Uint8Array,
  onFailure: (error: unknown) => void,
): AsyncGenerator<Uint8Array> {
  yield head;
  try {
    yield* content;
  } catch (error) {
    onFailure(error);
    throw error;
  }
  yield tail;
}

async function* chunksOf(source: UploadSource, files: LocalFiles | null): AsyncGenerator<Uint8Array> {
  if (typeof source === 'string') yield* localFiles(files).read(source);
  else if (ArrayBuffer.isView(source))
    yield source; // Of another realm too.
  else if (source instanceof Blob) yield* readChunks(source.stream());
  else yield* source;
}

/** Browsers send a body only as a whole; a Blob of theirs need not be in memory. */
async function blobOf(source: UploadSource, files: LocalFiles | null): Promise<Blob> {
  if (source instanceof Blob) return source;
  const pieces: BlobPart[] = [];
  if (source instanceof ReadableStream) {
    // Not every browser can iterate over a stream.
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
  const length = response.headers.get('content-length');
  const content = readDownload(transport, response.body, signal);
  return {
    size: length === null ? null : Number(length),
    body: streamOf(content),
    bytes: async () => allOf(content),
    text: async () => new TextDecoder('utf-8', { ignoreBOM: true }).decode(await allOf(content)),
    async saveTo(localPath) {
      await localFiles(transport.platform.files).write(localPath, content);
    },
  };
}

async function* readDownload(
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

function localFiles(files: LocalFiles | null): LocalFiles {
  if (files === null)
    throw new BoxRunError('VALIDATION_ERROR', 'there are no local files in a browser', {
      hint: 'use a File, a Blob or a stream',
    });
  return files;
}
