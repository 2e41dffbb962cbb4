// Copies files and directories between this host and a box. A file is streamed through the API. A directory is streamed
// as a tar archive, which is neither held in memory nor written to a disk. A copy of a file that fails leaves no
// partial file.
import { createReadStream, type Stats } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { basename, join, posix } from 'node:path';
import { BoxRunError } from '../../shared/errors.ts';
import type { BoxRunClient } from '../../sdk/index.ts';
import { packDirectory, unpackInto } from '../../sdk/local-tar.ts';
import { writeLocalFile } from '../../sdk/local-write.ts';
import type { Copy } from './copy-paths.ts';
import { resolveHere, UsageError } from '../parsing/options.ts';
import { passOn } from '../render/command-output.ts';
import { createProgressLine, renderBytes } from '../render/render.ts';

interface CopyOptions {
  readonly isQuiet: boolean;
  readonly signal: AbortSignal;
}

/** One copy: its two sides, and how it reports. */
interface Work {
  readonly client: BoxRunClient;
  readonly box: string;
  /** Absolute, in the box. */
  readonly path: string;
  /** True if the user wrote the path as a directory: it ends with a slash, `.` or `..`. */
  readonly isNamedDirectory: boolean;
  readonly local: string;
  readonly signal: AbortSignal;
  /** Passes `bytes` through and shows the progress. `total` is in bytes; null if it is not known. */
  count(bytes: AsyncIterable<Uint8Array>, total: number | null): AsyncIterable<Uint8Array>;
  /** Prints a problem that does not end the copy. */
  warn(text: string): void;
}

/**
 * Does one copy.
 * @throws UsageError for a target that cannot be meant, RUNTIME_ERROR if tar fails, the errors of the API
 */
export async function runCopy(
  client: BoxRunClient,
  { direction, local, remote }: Copy,
  { isQuiet, signal }: CopyOptions,
): Promise<void> {
  const progress = createProgressLine(process.stderr);
  const { id, workdir } = await client.getBox(remote.box, { signal });
  const work: Work = {
    client,
    box: id,
    local,
    signal,
    path: posix.resolve(workdir, remote.path),
    isNamedDirectory: /(^|\/)(\.{1,2})?$/.test(remote.path),
    async *count(bytes, total) {
      let done = 0;
      for await (const piece of bytes) {
        done += piece.byteLength;
        const share =
          total === null || total === 0 ? '' : ` of ${renderBytes(total)}, ${Math.floor((100 * done) / total)} %`;
        if (!isQuiet && local !== '-') progress.show(`${renderBytes(done)}${share}`);
        yield piece;
      }
    },
    warn(text) {
      progress.clear();
      process.stderr.write(`boxrun: warning: ${text}\n`);
    },
  };
  try {
    await (direction === 'up' ? upload(work) : download(work));
  } finally {
    progress.clear();
  }
}

async function upload(work: Work): Promise<void> {
  const { client, box, local, path, signal } = work;
  const isTargetDirectory = work.isNamedDirectory || (await isDirectory(work));
  if (local === '-') {
    if (isTargetDirectory) throw new UsageError(`${path} is a directory; add the name of the file`);
    await client.upload(box, process.stdin, path, { signal });
    return;
  }
  const found = await stat(local);
  const target = isTargetDirectory ? posix.join(path, basename(resolveHere(local))) : path;
  if (found.isDirectory()) return uploadDirectory(work, target);
  const content = work.count(createReadStream(local, { highWaterMark: 256 * 1024 }), found.size);
  await client.upload(box, content, target, { signal, ...(found.isFile() ? attributesOf(found) : {}) });
}

function attributesOf({ mode, mtime }: Stats): { readonly mode: number; readonly modified: Date } {
  return { mode: mode & 0o7777, modified: mtime };
}

async function uploadDirectory({ client, box, local, signal, count, warn }: Work, target: string): Promise<void> {
  const packed = count(packDirectory(local, { signal, warn }), null);
  refuseLeftOut(await client.files(box).unpack(target, packed, { signal }), warn);
}

async function download(work: Work): Promise<void> {
  const { client, box, local, path, signal } = work;
  if (await isDirectory(work)) return downloadDirectory(work);
  const file = await client.download(box, path, { signal });
  if (local === '-') {
    for await (const piece of file.body) await passOn(process.stdout, piece, signal);
    return;
  }
  const target = await localTarget(local, path);
  const { mode, modified } = file;
  await writeLocalFile(target, work.count(file.body, file.size), { mode, modified, signal });
}

async function downloadDirectory(work: Work): Promise<void> {
  const { client, box, local, path, signal, count, warn } = work;
  if (path === '/') throw new UsageError('the root directory of a box cannot be copied; choose a directory in it');
  const { body, warnings } = await client.files(box).pack(path, { signal });
  if (local === '-') {
    for await (const piece of body) await passOn(process.stdout, piece, signal);
  } else {
    const target = await localTarget(local, path);
    await mkdir(target, { recursive: true });
    await unpackInto(target, count(body, null), signal);
  }
  const { leftOut, changed } = warnings();
  if (changed.length > 0) warn(`files changed during the copy: ${changed.join('; ')}`);
  refuseLeftOut(leftOut, warn);
}

/** The copy has everything else. @throws RUNTIME_ERROR if something is missing */
function refuseLeftOut(leftOut: readonly string[], warn: (text: string) => void): void {
  for (const text of leftOut) warn(text);
  if (leftOut.length > 0) throw new BoxRunError('RUNTIME_ERROR', 'the copy is not complete; see the warnings');
}

/** If `local` is a directory, or is written as one, the copy goes into it and keeps its name. */
async function localTarget(local: string, path: string): Promise<string> {
  const isLocalDirectory =
    local.endsWith('/') ||
    (await stat(local).then(
      (found) => found.isDirectory(),
      () => false,
    ));
  return isLocalDirectory ? join(local, posix.basename(path)) : local;
}

async function isDirectory({ client, box, path, signal }: Work): Promise<boolean> {
  try {
    return (await client.files(box).stat(path, { signal })).type === 'directory';
  } catch (error) {
    if (!(error instanceof BoxRunError)) throw error;
    if (error.code === 'FILE_NOT_FOUND') return false;
    if (error.code !== 'RUNTIME_ERROR') throw error;
    // The box has no agent for files. The user's command is the copy, so no list shows this one.
    const test = { cmd: ['test', '-d', path], user: '0', internal: true };
    return (await client.exec(box, test, { signal })).exitCode === 0;
  }
}
