// Runs one operation on files by the agent's program, as a command of the box that is in no list (src/agent/files). The
// input of the program comes in blocks, with a block of length 0 at the end: if the client leaves, the input just ends,
// and the program removes what it has begun. Its report on stderr says what went wrong.
import { constants } from 'node:os';
import { text } from 'node:stream/consumers';
import { BoxRunError, type ErrorCode } from '../../shared/errors.ts';
import { newId } from '../../shared/ids.ts';
import { limits } from '../../shared/limits.ts';
import { withDeadline } from '../../shared/waiting/clock.ts';
import { agentVersion } from '../agent/frames.ts';
import type { Driver, ExecExit, ExecHandle, ExecRequest } from '../drivers/driver-contract.ts';

export type FileDriver = Pick<Driver, 'exec' | 'agentPath'>;

/** A connection to the client that the program uses as its input or its output. */
export type Direct = NonNullable<ExecRequest['socket']>;

/** Things that were not exactly as asked. */
export interface FileWarnings {
  readonly changed: readonly string[];
  readonly leftOut: readonly string[];
}

export interface FileProgram {
  /** The bytes of the answer, as they come. */
  readonly answer: AsyncIterableIterator<Buffer>;
  /** @throws the error of the program if it has ended */
  write(bytes: Uint8Array): Promise<void>;
  /** Everything was sent. */
  complete(): Promise<void>;
  /**
   * Waits for the end: for limits.fileAnswerMs, because everything else has happened, or as long as the client takes.
   * @throws FILE_NOT_FOUND, VALIDATION_ERROR, RUNTIME_ERROR; see errorOf
   */
  end(when?: 'soon' | 'whenever'): Promise<FileWarnings>;
  /** Ends the program early: first its input, and after a while itself. */
  close(): Promise<void>;
}

const withoutProgram = new WeakSet<object>();

/** The box cannot run the program: it has no agent, or one of an earlier version. */
function noFileProgram(): BoxRunError {
  const error = new BoxRunError('RUNTIME_ERROR', 'the agent that works on files is not in this box', {
    hint: 'exec, upload, download and cp work without it; if BOXRUN_AGENT is not off, stop and start the box',
  });
  withoutProgram.add(error);
  return error;
}

/** True if the box cannot run the program. Then nothing of the operation has happened. */
export function lacksFileProgram(error: unknown): boolean {
  return typeof error === 'object' && error !== null && withoutProgram.has(error);
}

/**
 * Starts an operation.
 * @param user as in a command; null for root
 * @throws RUNTIME_ERROR if the output of the box is only text (lacksFileProgram); the errors of Driver.exec
 */
export async function startFileProgram(
  driver: FileDriver,
  args: readonly string[],
  {
    user,
    hasInput,
    direct,
  }: { readonly user: string | null; readonly hasInput: boolean; readonly direct?: Direct | undefined },
): Promise<FileProgram> {
  const request = {
    execId: newId('exec'),
    cmd: [driver.agentPath, 'files', String(agentVersion), ...args],
    env: {},
    workdir: '/',
    user: user ?? '0',
    tty: null,
    stdin: hasInput,
    ...(direct === undefined ? {} : { socket: direct }),
  };
  // The program has its own descriptor then.
  const handle = await driver.exec(request).finally(() => direct?.socket.destroy());
  const program = new RunningProgram(handle, hasInput || direct?.is === 'stdin');
  if (handle.isTextOnly !== true) return program;
  await program.close();
  throw noFileProgram();
}

/** True if the box has the program, in the version that this worker knows. */
export async function hasFileProgram(driver: FileDriver): Promise<boolean> {
  try {
    const program = await startFileProgram(driver, ['stat', pathArgument('/'), '1'], { user: null, hasInput: false });
    await program.end();
    return true;
  } catch {
    return false;
  }
}

/** The bytes of a path as the program takes them. @throws VALIDATION_ERROR */
export function pathArgument(path: string): string {
  if (path.includes('\0')) throw new BoxRunError('VALIDATION_ERROR', 'a path has no NUL character');
  return Buffer.from(path).toString('hex');
}

const reportBytesMax = 256 * 1024;

class RunningProgram implements FileProgram {
  readonly answer: AsyncIterableIterator<Buffer>;
  readonly #handle: ExecHandle;
  readonly #tidies: boolean;
  readonly #report: Promise<string>;
  #closing: Promise<void> | null = null;

  /** @param tidies the program has to remove something when its input ends early */
  constructor(handle: ExecHandle, tidies: boolean) {
    this.#handle = handle;
    this.#tidies = tidies;
    this.answer = handle.stdout.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
    let bytes = 0;
    this.#report = text(
      handle.stderr.map((piece: Buffer) => ((bytes += piece.length) > reportBytesMax ? Buffer.alloc(0) : piece)),
    ).catch(() => '');
    handle.stdin?.on('error', () => undefined); // The end of the program explains the error.
  }

  async write(bytes: Uint8Array): Promise<void> {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    await this.#send(Buffer.concat([length, bytes]));
  }

  complete(): Promise<void> {
    return this.#send(Buffer.alloc(4));
  }

  async #send(bytes: Buffer): Promise<void> {
    const { stdin } = this.#handle;
    const sent = new Promise<boolean>((resolve) => {
      if (stdin === null || !stdin.writable) {
        resolve(false);
        return;
      }
      // A stream that is closed while it waits never calls back.
      const onClose = () => {
        resolve(false);
      };
      stdin.once('close', onClose);
      stdin.write(bytes, (error) => {
        stdin.off('close', onClose);
        resolve(error === null || error === undefined);
      });
    });
    if (await withDeadline(sent, limits.fileAnswerMs, 'an answer of the box')) return;
    await this.end();
    throw new BoxRunError('RUNTIME_ERROR', 'the program in the box ended too early');
  }

  async end(when: 'soon' | 'whenever' = 'soon'): Promise<FileWarnings> {
    const { stdout, exit: ended } = this.#handle;
    stdout.resume();
    const exit = await (when === 'soon' ? withDeadline(ended, limits.fileAnswerMs, 'the end of the operation') : ended);
    const lines = (await withDeadline(this.#report, limits.fileAnswerMs, 'the report of the operation')).split('\n');
    const error = errorOf(exit, lines);
    if (error !== null) throw error;
    const withMark = (mark: string) => lines.filter((line) => line.startsWith(mark)).map((line) => line.slice(1));
    return { changed: withMark('~'), leftOut: withMark('-') };
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    const { stdin, stdout, exit } = this.#handle;
    stdin?.end();
    stdout.resume();
    const ended = withDeadline(exit, this.#tidies ? limits.fileTidyMs : 0, 'the end').then(
      () => true,
      () => false,
    );
    if (!(await ended)) await this.#handle.killTree().catch(() => undefined);
    stdout.destroy();
  }
}

const { ENOENT, ENOTDIR, EACCES, EPERM, ENOSPC, EDQUOT, EROFS, EIO, ENOMEM, ESTALE, EMFILE, ENFILE } = constants.errno;
/** Errors that the box has, and not the request. */
const faultsOfBox = new Set<number>([...[EACCES, EPERM, ENOSPC, EDQUOT, EROFS, EIO, ENOMEM, ESTALE, EMFILE, ENFILE]]);
const notExecutable = new Set([2, 126, 127]);

/** The error of an operation that has ended, or null if it has succeeded. */
function errorOf(exit: ExecExit, report: readonly string[]): BoxRunError | null {
  if ('lost' in exit) return new BoxRunError('RUNTIME_ERROR', exit.lost);
  if (exit.exitCode === 0) return null;
  const [, number, why = ''] = report.map((line) => /^!(\d+) (.*)$/.exec(line)).find((found) => found !== null) ?? [];
  if (number !== undefined) return new BoxRunError(codeOf(Number(number), why), why);
  if (notExecutable.has(exit.exitCode)) return noFileProgram();
  if (exit.exitCode === 128 + constants.signals.SIGKILL)
    return new BoxRunError('RUNTIME_ERROR', 'the box was stopped, or ran out of memory');
  return new BoxRunError('RUNTIME_ERROR', `the operation failed in the box (exit code ${exit.exitCode})`);
}

/** @param errno of the box, which has the numbers of every Linux that runs boxes */
function codeOf(errno: number, why: string): ErrorCode {
  if (errno === ENOENT) return 'FILE_NOT_FOUND';
  if (errno === ENOTDIR && !why.endsWith('it is not a directory')) return 'FILE_NOT_FOUND';
  return faultsOfBox.has(errno) ? 'RUNTIME_ERROR' : 'VALIDATION_ERROR';
}
