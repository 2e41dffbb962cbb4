// tar(1) of this host, packing a directory into a stream and unpacking a stream into a directory. Used by copy.ts.
// What comes out of a box is not trusted: nobody's owner, no special modes, no devices, nothing outside the directory.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BoxRunError } from '../../shared/errors.ts';

interface PackOptions {
  readonly signal: AbortSignal;
  /** Told of files that changed while they were read. */
  readonly warn: (text: string) => void;
}

/** Whether that is what GNU tar says of its version. Its exit code 1 is no failure: see changedWhileRead. */
export function isGnuTar(version: string): boolean {
  return version.includes('GNU tar');
}

/** What GNU tar says with exit code 1, of files that changed or went while it read them. The archive is whole. */
export function changedWhileRead(said: string): string {
  return `the copy is not of one moment: ${said.trim()}`;
}

export async function* packDirectory(
  directory: string,
  { signal, warn }: PackOptions,
): AsyncGenerator<Uint8Array, void, void> {
  // In the words that the documentation of tar has.
  const args = ['LC_ALL=C', 'tar', '-cf', '-', '-C', directory, '.'];
  const child = spawn('env', args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
  const ended = endOf(child, child.stderr, (said) => {
    if (!isGnuTar(spawnSync('tar', ['--version'], { encoding: 'utf8' }).stdout)) return false;
    warn(changedWhileRead(said));
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
  // Root could make device nodes of whatever a box has packed.
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
 * @param mayEndWith1 whether exit code 1 is no failure, given what tar said
 * @throws RUNTIME_ERROR with what tar said
 */
async function endOf(
  child: ReturnType<typeof spawn>,
  stderr: Readable,
  mayEndWith1: (said: string) => boolean = () => false,
): Promise<void> {
  let said = '';
  stderr.setEncoding('utf8');
  stderr.on('data', (piece: string) => {
    said = (said + piece).slice(-4096);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === 1 && mayEndWith1(said)) return;
  if (code !== 0) throw new BoxRunError('RUNTIME_ERROR', `tar failed: ${said.trim()}`);
}
