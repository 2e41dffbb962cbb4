// What transfers of whole files have in common, by the agent's program and by scripts: whose files they are, which
// paths they take, and how the bytes of a file go to the client.
import { posix } from 'node:path';
import { BoxRunError } from '../../shared/errors.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import type { Driver } from '../drivers/driver-contract.ts';
import type { HandOver } from '../streams.ts';

export interface BoxFilesDeps {
  readonly driver: Pick<Driver, 'exec' | 'busyboxPath' | 'agentPath'>;
  /** The directory for relative paths. */
  readonly workdir: string;
  /** Lets the gateway open a second connection. Null: bytes go over the stream. */
  readonly handOver: (() => HandOver) | null;
}

/** The mode and the time that an uploaded file gets. */
export interface UploadedAs {
  /**
   * The permission bits, with setuid, setgid and sticky. Absent: a file that exists keeps its mode, a new one has 644.
   */
  readonly mode?: number;
  /** Seconds since 1970. Absent: the time of the upload. */
  readonly mtimeS?: number;
}

/** What a client learns of a file before its bytes. */
export interface SentFile {
  /** In bytes; 0 if the file is empty or its length is not known. */
  readonly size: number;
  readonly mode: number;
  readonly mtimeS: number;
}

/** If the length of the file is not known, none is sent. */
export async function sendContent(
  blocks: AsyncIterable<Uint8Array>,
  { size, ...rest }: SentFile,
  stream: ByteStream,
): Promise<void> {
  let sent = 0;
  if (size > 0) await stream.control({ type: 'size', bytes: size, ...rest });
  for await (const block of blocks) {
    if (sent === 0 && size === 0) await stream.control({ type: 'size', bytes: null, ...rest });
    const piece = size === 0 ? block : block.subarray(0, size - sent); // Bytes that were added during the download.
    await stream.send(piece);
    sent += piece.length;
    if (size > 0 && sent === size) return;
  }
  if (sent < size) throw new BoxRunError('RUNTIME_ERROR', `the file ended after ${sent} of ${size} bytes`);
  if (sent === 0) await stream.control({ type: 'size', bytes: 0, ...rest });
}

/**
 * Returns the absolute path in the box.
 * @throws VALIDATION_ERROR
 */
export function filePath(path: string, workdir: string): string {
  const refuse = (why: string) => new BoxRunError('VALIDATION_ERROR', `'${path}': ${why}`);
  if (path === '') throw refuse('the path is empty');
  if (path.includes('\0')) throw refuse('a path has no NUL character');
  if (path.split('/').includes('..')) throw refuse("'..' is not allowed in the path");
  if (path.endsWith('/') || path === '.' || path.endsWith('/.')) throw refuse('the path names a directory, not a file');
  return posix.join('/', path.startsWith('/') ? '' : workdir, path);
}

/**
 * Closes the work in the box as soon as the client closes the stream, even while the box sends no bytes. For
 * operations in which the client sends nothing over the stream.
 * @returns aborting it ends the watch
 */
export function closeWhenClientLeaves(stream: ByteStream, work: { close(): Promise<void> }): AbortController {
  const watching = new AbortController();
  void stream.next().catch(() => {
    if (!watching.signal.aborted) void work.close();
  });
  return watching;
}
