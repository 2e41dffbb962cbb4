// Files into and out of a box whose agent cannot work on files. A script of the driver's busybox reads or writes the
// file inside the box. So no path and no link leads out of the box, and all of its file systems can be reached. An
// upload goes one
// block at a time, and so does a download through an engine whose output is text. So at most one block is under way,
// also with an engine that would buffer without bound. Where a new file can be made beside it, an uploaded plain file
// changes only after the line `commit`. Elsewhere (a volume that is one file, devices) the bytes go straight into it.
import { settledWithin, withDeadline } from '../../shared/waiting/clock.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { newId } from '../../shared/ids.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import type { ExecHandle } from '../drivers/driver-contract.ts';
import { createByteReader, type ByteReader } from './byte-reader.ts';
import { downloadScript, packScript, refusedExit, scriptRequest, unpackScript, uploadScript } from './scripts.ts';
import {
  closeWhenClientLeaves,
  filePath,
  sendContent,
  type BoxFilesDeps,
  type SentFile,
  type UploadedAs,
} from './transfer.ts';

/**
 * Writes the bytes of the stream into a file of the box. Links are followed.
 * @param path in the box; a relative path starts at the workdir
 * @throws VALIDATION_ERROR when the path cannot be that of a file, RUNTIME_ERROR with the error message of the script
 */
export async function receiveByScript(
  { driver, workdir }: BoxFilesDeps,
  path: string,
  stream: ByteStream,
  { mode, mtimeS }: UploadedAs = {},
): Promise<void> {
  const command = await startScript(driver, uploadScript, [
    filePath(path, workdir),
    `.boxrun-upload-${newId('exec').slice(5)}`,
    mode === undefined ? '' : mode.toString(8),
    mtimeS === undefined ? '' : `${mtimeS}`,
  ]);
  await receiveInScript(command, path, stream);
}

/** Passes the bytes of the client to a script, a block at a time, until it has said `done`. */
async function receiveInScript(command: Script, path: string, stream: ByteStream): Promise<void> {
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

/**
 * Sends the bytes of a file of the box over the stream. If the file grows meanwhile, the new bytes are not sent.
 * @throws as receiveByScript
 */
export async function sendByScript(files: BoxFilesDeps, path: string, stream: ByteStream): Promise<void> {
  const args = [filePath(path, files.workdir), `${limits.fileBlockBytes}`];
  await sendFromScript(files, downloadScript, args, stream, async (command) => {
    const found = foundFile(await command.within(command.output.nextLine()));
    await sendContent(blocksOf(command), found, stream);
  });
}

/** Sends a tar archive of a directory. @throws RUNTIME_ERROR with the error message of tar */
export async function packByScript({ driver }: BoxFilesDeps, directory: string, stream: ByteStream): Promise<void> {
  await sendFromScript({ driver }, packScript, [directory, `${limits.fileBlockBytes}`], stream, async (command) => {
    for await (const block of blocksOf(command)) await stream.send(block);
    await command.succeed();
    await stream.control({ type: 'done' });
  });
}

/** Unpacks the bytes of the stream, a tar archive, into a directory. @throws RUNTIME_ERROR as `packByScript` */
export async function unpackByScript({ driver }: BoxFilesDeps, directory: string, stream: ByteStream): Promise<void> {
  await receiveInScript(await startScript(driver, unpackScript, [directory]), directory, stream);
}

async function sendFromScript(
  { driver }: Pick<BoxFilesDeps, 'driver'>,
  script: string,
  args: readonly string[],
  stream: ByteStream,
  send: (command: Script) => Promise<void>,
): Promise<void> {
  const command = await startScript(driver, script, args);
  const watching = closeWhenClientLeaves(stream, command);
  try {
    await send(command);
  } catch (error) {
    throw await command.explain(error, args[0] ?? '');
  } finally {
    watching.abort();
    await command.close();
  }
}

/**
 * Reads the line that the download script prints first.
 * A file without blocks on a disk is empty, or it is a file of the kernel: those in /proc have length 0 and those in
 * /sys have length 4096, whatever their content is. So its length counts as not known.
 * @throws RUNTIME_ERROR when the line is not as expected
 */
function foundFile(line: string): SentFile {
  const [, size, blocks, mode = '', mtimeS] = /^(\d+) (\d+) ([0-7]+) (-?\d+)$/.exec(line) ?? [];
  if (size === undefined) throw new BoxRunError('RUNTIME_ERROR', 'the script in the box did not describe the file');
  return { size: blocks === '0' ? 0 : Number(size), mode: Number.parseInt(mode, 8), mtimeS: Number(mtimeS) };
}

async function* blocksOf(command: Script): AsyncGenerator<Uint8Array> {
  for (;;) {
    await command.write('\n');
    const line = await command.within(command.output.nextLine());
    // When the engine has dropped output, it writes a text about that into the stream, and the line is not base64.
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(line))
      throw new BoxRunError('RUNTIME_ERROR', 'the engine dropped a part of the file');
    if (line === '') return;
    yield Buffer.from(line, 'base64');
  }
}

interface Script {
  readonly output: ByteReader;
  write(data: string | Uint8Array): Promise<void>;
  /** @throws RUNTIME_ERROR when the script prints another line */
  expect(line: string): Promise<void>;
  /** @throws TIMEOUT after limits.fileAnswerMs */
  within<T>(work: Promise<T>): Promise<T>;
  /** Ends the input and waits until the script has succeeded. @throws RUNTIME_ERROR */
  succeed(): Promise<void>;
  /** Returns the error for the client. The last line that the script wrote to stderr explains it best. */
  explain(error: unknown, path: string): Promise<unknown>;
  /**
   * Ends the input of the script, and waits for the script's end. After `graceMs` milliseconds the script is killed.
   */
  close(graceMs?: number): Promise<void>;
}

async function startScript(driver: BoxFilesDeps['driver'], script: string, args: readonly string[]): Promise<Script> {
  return new RunningScript(await driver.exec(scriptRequest(driver, script, args, { stdin: true })));
}

const stderrTailCharactersMax = 4_096;

class RunningScript implements Script {
  readonly output: ByteReader;
  readonly #handle: ExecHandle;
  #stderrTail = '';
  /** Resolves when stderr has ended. */
  readonly #complete: Promise<void>;
  #closing: Promise<void> | null = null;

  constructor(handle: ExecHandle) {
    this.#handle = handle;
    this.output = createByteReader(handle.stdout);
    handle.stderr.on('data', (piece: Buffer) => {
      this.#stderrTail = (this.#stderrTail + piece.toString()).slice(-stderrTailCharactersMax);
    });
    handle.stderr.on('error', () => undefined);
    this.#complete = new Promise((resolve) => {
      for (const event of ['end', 'close']) handle.stderr.once(event, resolve);
    });
    handle.stdin?.on('error', () => undefined); // The exit of the script explains the error.
  }

  async write(data: string | Uint8Array): Promise<void> {
    const { stdin } = this.#handle;
    if (stdin === null || !stdin.writable)
      throw new BoxRunError('RUNTIME_ERROR', 'the script in the box takes no input');
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
    const answer = await this.output.nextLine();
    if (answer !== line) {
      throw new BoxRunError('RUNTIME_ERROR', `the script in the box printed '${answer.slice(0, 200)}'`);
    }
  }

  within<T>(work: Promise<T>): Promise<T> {
    return withDeadline(work, limits.fileAnswerMs, 'an answer of the box');
  }

  async succeed(): Promise<void> {
    this.#handle.stdin?.end();
    const exit = await this.within(this.#handle.exit);
    if (!('exitCode' in exit) || exit.exitCode !== 0)
      throw new BoxRunError('RUNTIME_ERROR', 'the script in the box failed');
  }

  async explain(error: unknown, path: string): Promise<unknown> {
    if (error instanceof BoxRunError && error.code === 'UNAVAILABLE') return error;
    this.#handle.stdin?.end();
    const exit = await withDeadline(this.#handle.exit, limits.exitDrainMs, 'the end').catch(() => null);
    // The last line may still be on its way: a VM sends output and exit codes in calls of their own.
    await settledWithin(this.#complete, limits.exitDrainMs);
    const complaint =
      this.#stderrTail
        .trim()
        .split('\n')
        .at(-1)
        ?.replace(/^(sh|dd|mv|cat|mkdir|stat): /, '') ?? '';
    if (exit !== null && 'lost' in exit) return new BoxRunError('RUNTIME_ERROR', `'${path}': ${exit.lost}`);
    if (exit?.exitCode === 137)
      return new BoxRunError('RUNTIME_ERROR', `'${path}': the box was stopped, or ran out of memory`);
    if (exit?.exitCode === refusedExit) return new BoxRunError('VALIDATION_ERROR', `'${path}': ${complaint}`);
    if (complaint !== '') return new BoxRunError('RUNTIME_ERROR', `'${path}': ${complaint}`);
    return error;
  }

  close(graceMs: number = limits.exitDrainMs): Promise<void> {
    this.#closing ??= this.#end(graceMs);
    return this.#closing;
  }

  async #end(graceMs: number): Promise<void> {
    const { stdin, stdout, exit } = this.#handle;
    stdin?.end();
    // The script ends at the end of its input, and removes an unfinished upload before. If it does not end, it is
    // killed.
    stdout.resume();
    const ended = await withDeadline(exit, graceMs, 'the end').then(
      () => true,
      () => false,
    );
    if (!ended) await this.#handle.killTree().catch(() => undefined);
    stdout.destroy();
  }
}
