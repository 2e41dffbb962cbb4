// Writes one file on this host. A plain file is written beside its place and renamed, so that it is never incomplete.
// Links are followed. A file with more names, a FIFO and a device are written directly, because a rename would replace
// them.
import { createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, realpath, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

export interface WrittenAs {
  /** The permission bits. The umask of this process and setuid bits are left out. Absent: those of the file before. */
  readonly mode?: number | null | undefined;
  readonly modified?: Date | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes `content` to `path`. Creates missing directories.
 * @throws the errors of the file system and of `content`, unchanged
 */
export async function writeLocalFile(
  path: string,
  content: AsyncIterable<Uint8Array>,
  { mode, modified, signal }: WrittenAs = {},
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const options = signal === undefined ? {} : { signal };
  const before = await orNull(stat(path));
  const leadsNowhere = before === null && (await orNull(lstat(path))) !== null;
  if (leadsNowhere || (before !== null && (!before.isFile() || before.nlink > 1))) {
    await pipeline(Readable.from(content), createWriteStream(path), options);
    return;
  }
  const place = before === null ? path : await realpath(path);
  const partial = `${place}.${process.pid}.part`;
  try {
    await pipeline(Readable.from(content), createWriteStream(partial, { flags: 'wx' }), options);
    const bits = typeof mode === 'number' ? mode & 0o777 & ~process.umask() : before?.mode;
    if (bits !== undefined) await chmod(partial, bits & 0o7777);
    if (modified instanceof Date) await utimes(partial, new Date(), modified);
    await rename(partial, place);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

function orNull<T>(work: Promise<T>): Promise<T | null> {
  return work.catch(() => null);
}
