// Files into and out of a box, whatever its engine: a script of the driver's busybox inside the box reads or writes
// them, so that no path and no link leads out of it, and every file system of the box can be reached.
//
// The script takes and gives blocks as it is told to, which gives back-pressure where the engine has none. An upload
// stands at its destination only after the word `commit`; when its input ends without it, the script removes what it
// wrote.
import { posix } from 'node:path';
import { withDeadline } from '../../shared/waiting/clock.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { newId } from '../../shared/ids.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import type { Driver, ExecHandle } from '../drivers/driver-contract.ts';
import { createByteReader, type ByteReader } from './byte-reader.ts';

export interface BoxFilesDeps {
  readonly driver: Pick<Driver, 'exec' | 'busyboxPath' | 'outputIsExact'>;
  /** Relative paths start there. */
  readonly workdir: string;
}

/** Exit codes of the scripts beside 0 and 1, for what the caller got wrong. */
const refusedExit = 20;

/**
 * $1 destination, $2 its directory, $3 a name beside it. Answers `ready`, the length of each block written, and `done`.
 */
const uploadScript = `
refuse() { echo "$1" >&2; exit ${refusedExit}; }
give_up() { rm -f -- "$3"; exit 1; }
[ ! -d "$1" ] || refuse "it is a directory"
mkdir -p -- "$2" || exit 1
{ : >"$3"; } || exit 1
exec 4>"$3"
echo ready
while read -r n; do
  if [ "$n" = commit ]; then
    exec 4>&-
    [ ! -d "$1" ] || { rm -f -- "$3"; refuse "it is a directory"; }
    if [ -f "$1" ]; then
      chmod "$(stat -L -c %a -- "$1")" "$3"
      chown "$(stat -L -c %u:%g -- "$1")" "$3"
    fi
    mv -f -- "$3" "$1" || give_up "$@"
    echo done
    exit 0
  fi
  dd bs="$n" count=1 iflag=fullblock status=none >&4 || give_up "$@"
  echo "$n"
done
give_up "$@"
`;

const openFile = `
refuse() { echo "$1" >&2; exit ${refusedExit}; }
[ -e "$1" ] || { echo "no such file" >&2; exit 1; }
[ ! -d "$1" ] || refuse "it is a directory"
[ -f "$1" ] || refuse "it is no regular file"
exec 4<"$1" || exit 1
stat -L -c %s -- "$1" || exit 1
`;

/** $1 the file. Gives its length as a line, then its bytes. */
const downloadScript = `${openFile}
exec cat <&4
`;

/**
 * $1 the file, $2 bytes of a block. Gives its length as a line; then for each line of input the next block as a line of
 * base64.
 */
const downloadTextScript = `${openFile}
while read -r n; do
  dd bs="$2" count=1 iflag=fullblock status=none <&4 | base64 -w 0 || exit 1
  echo
done
`;

/** @throws VALIDATION_ERROR for what cannot be the path of a file, RUNTIME_ERROR with what the box says */
export async function receiveUpload(
  { driver, workdir }: BoxFilesDeps,
  path: string,
  stream: ByteStream,
): Promise<void> {
  const destination = checkedPath(path, workdir);
  const directory = posix.dirname(destination);
  const part = posix.join(directory, `.boxrun-upload-${newId('exec').slice(5)}`);
  const command = await startScript(driver, uploadScript, [destination, directory, part]);
  try {
    await command.within(command.expect('ready'));
    for (let item = await stream.next(); item !== null; item = await stream.next()) {
      if (!('bytes' in item)) continue;
      for (let from = 0; from < item.bytes.length; from += limits.fileBlockBytes) {
        const block = item.bytes.subarray(from, from + limits.fileBlockBytes);
        await command.write(`${block.length}\n`);
        await command.write(block);
        await command.within(command.expect(`${block.length}`));
      }
    }
    await command.write('commit\n');
    await command.within(command.expect('done'));
    await stream.control({ type: 'done' });
  } catch (error) {
    throw await command.explain(error, path);
  } finally {
    await command.close(limits.fileTidyMs);
  }
}

/** @throws as receiveUpload */
export async function sendDownload({ driver, workdir }: BoxFilesDeps, path: string, stream: ByteStream): Promise<void> {
  const file = checkedPath(path, workdir);
  const script = driver.outputIsExact ? downloadScript : downloadTextScript;
  const command = await startScript(driver, script, [file, `${limits.fileBlockBytes}`]);
  const gone = watchForEnd(stream, command);
  try {
    const size = Number(await command.within(command.output.line()));
    if (!Number.isInteger(size)) throw new BoxRunError('RUNTIME_ERROR', 'the box does not say how long it is');
    await sendContent(driver.outputIsExact ? exactBlocks(command) : textBlocks(command), size, stream);
  } catch (error) {
    throw await command.explain(error, path);
  } finally {
    gone.abort();
    await command.close();
  }
}

/** Files of the kernel say 0 and have content all the same: for them no length is told. */
async function sendContent(blocks: AsyncIterable<Uint8Array>, size: number, stream: ByteStream): Promise<void> {
  let sent = 0;
  if (size > 0) await stream.control({ type: 'size', bytes: size });
  for await (const block of blocks) {
    if (sent === 0 && size === 0) await stream.control({ type: 'size', bytes: null });
    const piece = size === 0 ? block : block.subarray(0, size - sent); // What was added meanwhile is left out.
    await stream.send(piece);
    sent += piece.length;
    if (size > 0 && sent === size) return;
  }
  if (sent < size) throw new BoxRunError('RUNTIME_ERROR', `it ended after ${sent} of ${size} bytes`);
  if (sent === 0) await stream.control({ type: 'size', bytes: 0 });
}

async function* exactBlocks({ output }: Script): AsyncGenerator<Uint8Array> {
  for (let block = await output.some(); block !== null; block = await output.some()) yield block;
}

async function* textBlocks(command: Script): AsyncGenerator<Uint8Array> {
  for (;;) {
    await command.write('\n');
    const line = await command.within(command.output.line());
    // The engine says so in the stream when it has dropped something.
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(line))
      throw new BoxRunError('RUNTIME_ERROR', 'its content did not come through whole');
    if (line === '') return;
    yield Buffer.from(line, 'base64');
  }
}

/** A client that leaves is noticed while the box is silent, too. */
function watchForEnd(stream: ByteStream, command: Script): AbortController {
  const watching = new AbortController();
  void stream.next().catch(() => {
    if (!watching.signal.aborted) void command.close();
  });
  return watching;
}

/** @throws VALIDATION_ERROR */
function checkedPath(path: string, workdir: string): string {
  const refuse = (why: string) => new BoxRunError('VALIDATION_ERROR', `'${path}': ${why}`);
  if (path === '') throw refuse('the path is empty');
  if (path.includes('\0')) throw refuse('a path has no NUL character');
  if (path.split('/').includes('..')) throw refuse("'..' is not allowed in the path");
  if (path.endsWith('/') || path === '.' || path.endsWith('/.')) throw refuse('it is a directory; name a file');
  return posix.join('/', path.startsWith('/') ? '' : workdir, path);
}

interface Script {
  readonly output: ByteReader;
  write(data: string | Uint8Array): Promise<void>;
  expect(line: string): Promise<void>;
  within<T>(work: Promise<T>): Promise<T>;
  /** The error that the script's own words make of what went wrong. */
  explain(error: unknown, path: string): Promise<unknown>;
  /** Ends its input, and waits until it has ended; past `graceMs` it is killed. */
  close(graceMs?: number): Promise<void>;
}

async function startScript(driver: BoxFilesDeps['driver'], script: string, args: readonly string[]): Promise<Script> {
  const handle = await driver.exec({
    execId: newId('exec'),
    cmd: [driver.busyboxPath, 'sh', '-c', script, 'sh', ...args],
    env: {},
    workdir: '/',
    user: '0',
    tty: null,
    stdin: true,
  });
  return new RunningScript(handle);
}

const wordsMax = 4_096;

class RunningScript implements Script {
  readonly output: ByteReader;
  readonly #handle: ExecHandle;
  #words = '';
  #closing: Promise<void> | null = null;

  constructor(handle: ExecHandle) {
    this.#handle = handle;
    this.output = createByteReader(handle.stdout);
    handle.stderr.on('data', (piece: Buffer) => {
      this.#words = (this.#words + piece.toString()).slice(-wordsMax);
    });
    handle.stderr.on('error', () => undefined);
    handle.stdin?.on('error', () => undefined); // Its end says why.
  }

  async write(data: string | Uint8Array): Promise<void> {
    const { stdin } = this.#handle;
    if (stdin === null || !stdin.writable) throw new BoxRunError('RUNTIME_ERROR', 'the box takes no input');
    await this.within(
      new Promise<void>((resolve, reject) => {
        stdin.write(data, (error) => {
          if (error === null || error === undefined) resolve();
          else reject(error);
        });
      }),
    );
  }

  async expect(line: string): Promise<void> {
    const said = await this.output.line();
    if (said !== line) throw new BoxRunError('RUNTIME_ERROR', `the box answered '${said.slice(0, 200)}'`);
  }

  within<T>(work: Promise<T>): Promise<T> {
    return withDeadline(work, limits.fileAnswerMs, 'an answer of the box');
  }

  async explain(error: unknown, path: string): Promise<unknown> {
    if (error instanceof BoxRunError && error.code === 'UNAVAILABLE') return error;
    this.#handle.stdin?.end();
    const exit = await withDeadline(this.#handle.exit, limits.exitDrainMs, 'the end').catch(() => null);
    await new Promise((resolve) => {
      setImmediate(resolve);
    }); // Its last words may still be in the pipe.
    const words =
      this.#words
        .trim()
        .split('\n')
        .at(-1)
        ?.replace(/^(sh|dd|mv|cat|mkdir|stat): /, '') ?? '';
    if (exit !== null && 'lost' in exit) return new BoxRunError('RUNTIME_ERROR', `'${path}': ${exit.lost}`);
    if (exit?.exitCode === 137)
      return new BoxRunError('RUNTIME_ERROR', `'${path}': the box was stopped, or ran out of memory`);
    if (exit?.exitCode === refusedExit) return new BoxRunError('VALIDATION_ERROR', `'${path}': ${words}`);
    if (words !== '') return new BoxRunError('RUNTIME_ERROR', `'${path}': ${words}`);
    return error;
  }

  close(graceMs: number = limits.exitDrainMs): Promise<void> {
    this.#closing ??= this.#end(graceMs);
    return this.#closing;
  }

  async #end(graceMs: number): Promise<void> {
    const { stdin, stdout, exit } = this.#handle;
    stdin?.end();
    // Input's end is its end: an unfinished upload is removed by then. What is stuck is killed.
    stdout.resume();
    const ended = await withDeadline(exit, graceMs, 'the end').then(
      () => true,
      () => false,
    );
    if (!ended) await this.#handle.killTree().catch(() => undefined);
    stdout.destroy();
  }
}
