// Runs tar(1) of this host: packs a directory into a stream, and unpacks a stream into a directory. Archives from a box
// are not trusted. Unpacking sets no owner and no setuid, setgid or sticky bits. The umask is applied to the other mode
// bits. Unpacking makes no devices, and writes nothing outside the directory.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BoxRunError } from '../../shared/errors.ts';

interface PackOptions {
  readonly signal: AbortSignal;
  /** Called if files changed while tar read them. */
  readonly warn: (text: string) => void;
}

/** Whether `version`, the output of `tar --version`, is that of GNU tar. Exit code 1 of GNU tar is no failure. */
export function isGnuTar(version: string): boolean {
  return version.includes('GNU tar');
}

/**
 * The warning for exit code 1 of GNU tar: files changed or were removed while tar read them. The archive is complete.
 * @param output error output of tar
 */
export function changedWhileRead(output: string): string {
  return `files changed during the copy: ${output.trim()}`;
}

export async function* packDirectory(
  directory: string,
  { signal, warn }: PackOptions,
): AsyncGenerator<Uint8Array, void, void> {
  // The C locale gives the messages that the documentation of tar quotes, not translations.
  const args = ['LC_ALL=C', 'tar', '-cf', '-', '-C', directory, '.'];
  const child = spawn('env', args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
  const ended = endOf(child, child.stderr, (output) => {
    if (!isGnuTar(spawnSync('tar', ['--version'], { encoding: 'utf8' }).stdout)) return false;
    warn(changedWhileRead(output));
    return true;
  });
  ended.catch(() => undefined);
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    await ended;
  } finally {
    child.kill();
  }
}

export async function unpackInto(
  directory: string,
  archive: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const tar = ['tar', '-x', '--no-same-owner', '--no-same-permissions', '-C', directory, '-f', '-'];
  // Root may make device nodes. setpriv takes that right away, because the box chose the contents of the archive.
  const [command = '', ...args] =
    process.getuid?.() === 0 ? ['setpriv', '--bounding-set', '-mknod', '--inh-caps', '-mknod', '--', ...tar] : tar;
  const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'pipe'], signal });
  const ended = endOf(child, child.stderr);
  ended.catch(() => undefined);
  try {
    await pipeline(Readable.from(archive), child.stdin);
  } catch (error) {
    child.kill();
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error;
  }
  await ended;
}

/**
 * Waits until tar ends.
 * @param mayEndWith1 given the error output of tar: true if exit code 1 is no failure
 * @throws RUNTIME_ERROR with the error output of tar
 */
async function endOf(
  child: ReturnType<typeof spawn>,
  stderr: Readable,
  mayEndWith1: (output: string) => boolean = () => false,
): Promise<void> {
  let output = '';
  stderr.setEncoding('utf8');
  stderr.on('data', (piece: string) => {
    output = (output + piece).slice(-4096);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === 1 && mayEndWith1(output)) return;
  if (code !== 0) throw new BoxRunError('RUNTIME_ERROR', `tar failed: ${output.trim()}`);
}
