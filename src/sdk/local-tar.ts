// Runs tar(1) of this host: packs a directory into a stream, and unpacks a stream into a directory. Archives from a box
// are not trusted. Unpacking sets no owner and no setuid, setgid or sticky bits. The umask is applied to the other mode
// bits. Unpacking makes no devices, and writes nothing outside the directory.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BoxRunError } from '../shared/errors.ts';
import type { PackOptions } from './platform.ts';

/** GNU tar keeps holes and extended attributes if it is asked to, and its exit code 1 is no failure. */
function isGnuTar(): boolean {
  return spawnSync('tar', ['--version'], { encoding: 'utf8' }).stdout.includes('GNU tar');
}

export async function* packDirectory(
  directory: string,
  { signal, warn }: PackOptions,
): AsyncGenerator<Uint8Array, void, void> {
  // The C locale gives the messages that the documentation of tar quotes, not translations.
  const isGnu = isGnuTar();
  const extra = isGnu ? ['--format=posix', '--sparse', '--xattrs'] : [];
  const args = ['LC_ALL=C', 'tar', ...extra, '-cf', '-', '-C', directory, '.'];
  const child = spawn('env', args, { stdio: ['ignore', 'pipe', 'pipe'], ...withSignal(signal) });
  const ended = endOf(child, child.stderr, (output) => {
    if (!isGnu) return false;
    // Exit code 1 means that files changed or were removed meanwhile. The archive is complete.
    warn(`files changed during the copy: ${output.trim()}`);
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
  signal: AbortSignal | undefined,
): Promise<void> {
  const extra = isGnuTar() ? ['--xattrs', '--xattrs-include=user.*'] : [];
  const tar = ['tar', '-x', ...extra, '--no-same-owner', '--no-same-permissions', '-C', directory, '-f', '-'];
  // Root may make device nodes. setpriv takes that right away, because the box chose the contents of the archive.
  const [command = '', ...args] =
    process.getuid?.() === 0 ? ['setpriv', '--bounding-set', '-mknod', '--inh-caps', '-mknod', '--', ...tar] : tar;
  const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'pipe'], ...withSignal(signal) });
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

function withSignal(signal: AbortSignal | undefined): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
