// Runs one script of the driver's busybox in the box, as root of the box, and returns the text that it printed.
// A script that does not end in time, or whose caller has gone, is killed.
import { withDeadline } from '../../shared/waiting/clock.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { Driver, ExecHandle } from '../drivers/driver-contract.ts';
import { refusedExit, scriptRequest } from './scripts.ts';

export type ScriptTools = Pick<Driver, 'exec' | 'busyboxPath'>;

export interface ScriptOptions {
  /** Milliseconds until the script is killed; limits.fileAnswerMs when absent. */
  readonly deadlineMs?: number;
  /** Kills the script. */
  readonly signal?: AbortSignal;
}

/** Bytes of the text. The rest is left out. */
const textBytesMax = 8 * 1024 * 1024;

/**
 * @throws VALIDATION_ERROR if the script refuses its arguments, RUNTIME_ERROR if it fails, TIMEOUT, CANCELED
 */
export async function runScript(
  driver: ScriptTools,
  script: string,
  args: readonly string[],
  { deadlineMs = limits.fileAnswerMs, signal }: ScriptOptions = {},
): Promise<string> {
  const handle = await driver.exec(scriptRequest(driver, script, args, { stdin: false }));
  const kill = () => handle.killTree().catch(() => undefined);
  const onAbort = () => void kill();
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  const outputs = Promise.all([textOf(handle.stdout), textOf(handle.stderr), handle.exit]);
  try {
    const [text, complaint, exit] = await withDeadline(outputs, deadlineMs, 'an answer of the box');
    if (signal?.aborted === true) throw new BoxRunError('CANCELED', 'the client has gone');
    if ('lost' in exit) throw new BoxRunError('RUNTIME_ERROR', exit.lost);
    if (exit.exitCode === 0) return text;
    throw new BoxRunError(exit.exitCode === refusedExit ? 'VALIDATION_ERROR' : 'RUNTIME_ERROR', complaint.trim());
  } catch (error) {
    await kill();
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/** All text of a stream. What is over textBytesMax is read and dropped. */
async function textOf(stream: ExecHandle['stdout']): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    if (bytes < textBytesMax) pieces.push(piece);
    bytes += piece.length;
  }
  return Buffer.concat(pieces).toString('utf8');
}
