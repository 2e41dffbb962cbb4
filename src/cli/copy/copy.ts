// Copies files and directories between this host and a box. A file is streamed through the API. A directory is sent as
// a tar archive: the tar of one side packs it, the tar of the other side unpacks it. Contents are never held in memory,
// and a copy of a file that fails leaves no partial file. The archive in the box is removed after the copy; if that
// removal fails, it stays there.
import { randomBytes } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { basename, join, posix } from 'node:path';
import { BoxRunError } from '../../shared/errors.ts';
import type { BoxRunClient } from '../../sdk/index.ts';
import { writeLocalFile } from '../../sdk/local-write.ts';
import type { Copy } from './copy-paths.ts';
import { changedWhileRead, isGnuTar, packDirectory, unpackInto } from './local-tar.ts';
import { resolveHere, UsageError } from '../parsing/options.ts';
import { passOn } from '../render/command-output.ts';
import { createProgressLine, renderBytes } from '../render/render.ts';

/** Uploads and downloads act as root of the box. The commands of a copy do too, whatever the image's user is. */
const root = '0';

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
  const archive = archivePath();
  try {
    await client.upload(box, count(packDirectory(local, { signal, warn }), null), archive, { signal, mode: 0o600 });
    await inBox(client, box, ['mkdir', '-p', target], signal);
    await inBox(client, box, ['tar', '-xof', archive, '-C', target], signal);
  } finally {
    await removeInBox(client, box, archive);
  }
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
  const { client, box, local, path, signal, count } = work;
  const archive = archivePath();
  if (path === '/') throw new UsageError('the root directory of a box cannot be copied; choose a directory in it');
  try {
    await client.upload(box, new Uint8Array(), archive, { signal, mode: 0o600 });
    await packInBox(work, archive);
    const { body, size } = await client.download(box, archive, { signal });
    if (local === '-') {
      for await (const piece of body) await passOn(process.stdout, piece, signal);
      return;
    }
    const target = await localTarget(local, path);
    await mkdir(target, { recursive: true });
    await unpackInto(target, count(body, size), signal);
  } finally {
    await removeInBox(client, box, archive);
  }
}

/** Exit code 1 of GNU tar means that files changed while tar read them. Exit code 1 of any other tar is a failure. */
async function packInBox({ client, box, path, signal, warn }: Work, archive: string): Promise<void> {
  const cmd = ['tar', '-cf', archive, '-C', path, '.'];
  const { exitCode, error, stderr } = await client.exec(box, { ...internal(cmd), env: { LC_ALL: 'C' } }, { signal });
  if (exitCode === 1 && error === null) {
    const { stdout } = await client.exec(box, internal(['tar', '--version']), { signal });
    if (isGnuTar(stdout)) {
      warn(changedWhileRead(stderr));
      return;
    }
  }
  refuseFailure(cmd, { exitCode, error, stderr });
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

/**
 * A new path for the archive in the box. The root directory is on the box's own disk. It is never a volume, and never
 * a part of the copied directory.
 */
function archivePath(): string {
  return `/.boxrun-${randomBytes(6).toString('hex')}.tar`;
}

/** False for a box without the program `test`. Such a box has no tar either, so no directory can be copied there. */
async function isDirectory({ client, box, path, signal }: Work): Promise<boolean> {
  return (await client.exec(box, internal(['test', '-d', path]), { signal })).exitCode === 0;
}

/** The command of the user is the copy, so lists and events do not show what the copy runs in the box. */
function internal(cmd: readonly string[]) {
  return { cmd: [...cmd], user: root, internal: true };
}

async function inBox(client: BoxRunClient, box: string, cmd: readonly string[], signal: AbortSignal): Promise<void> {
  refuseFailure(cmd, await client.exec(box, internal(cmd), { signal }));
}

type Outcome = Pick<Awaited<ReturnType<BoxRunClient['exec']>>, 'exitCode' | 'error' | 'stderr'>;

/** @throws RUNTIME_ERROR with the error output of the command, if it failed */
function refuseFailure(cmd: readonly string[], { exitCode, error, stderr }: Outcome): void {
  if (exitCode === 0) return;
  throw new BoxRunError('RUNTIME_ERROR', `in the box, ${cmd[0]} failed: ${(error ?? stderr).trim()}`, {
    ...(exitCode === 127 ? { hint: 'to copy directories, the box needs the program tar' } : {}),
  });
}

/**
 * Removes the archive, also after an interrupt (so it has a signal of its own). Ignores errors: an error of the copy
 * itself is more useful to the user.
 */
async function removeInBox(client: BoxRunClient, box: string, path: string): Promise<void> {
  await client.exec(box, internal(['rm', '-f', path]), { signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
}
