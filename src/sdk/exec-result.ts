// The result of a command that has ended: its exit and its whole output, made from its output events. Each result also
// has the names that the other kind of result uses.
// The size of the output has a bound, because it is held in memory.
import type { RunResult } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import { joinBytes } from './byte-stream.ts';
import type { ExecEvent } from './event-stream.ts';

export interface ExecResult {
  /** Null if the command did not end by itself; then `error` says why. */
  readonly exitCode: number | null;
  /** Why the command did not end by itself (canceled, timed out, out of memory, lost); else null. */
  readonly error: string | null;
  /** Decoded as UTF-8. Invalid bytes become U+FFFD. */
  readonly stdout: string;
  readonly stderr: string;
  /** The same output, byte for byte. */
  readonly stdoutBytes: Uint8Array;
  readonly stderrBytes: Uint8Array;
  /** The same as `exitCode` and `error`, by the names of the API. JSON and copies do not have them. */
  readonly exit_code: number | null;
  readonly error_message: string | null;
}

/** The answer to a run. `exitCode` and `error` are there as for a command; JSON and copies do not have them. */
export interface RunOutcome extends RunResult {
  readonly exitCode: number | null;
  readonly error: string | null;
}

export function runOutcome(result: RunResult): RunOutcome {
  return withHidden(result, { exitCode: result.exit_code, error: result.error_message });
}

/** Adds fields that are not enumerable, so that JSON and comparisons of a result stay as they were. */
function withHidden<T extends object, Hidden extends object>(result: T, hidden: Hidden): T & Hidden {
  for (const [name, value] of Object.entries(hidden)) Object.defineProperty(result, name, { value });
  return result as T & Hidden;
}

/** @throws RESOURCE_EXCEEDED if there is more output than `outputBytesMax` bytes */
export async function collectResult(events: AsyncIterable<ExecEvent>, outputBytesMax: number): Promise<ExecResult> {
  const pieces: Record<'stdout' | 'stderr', Uint8Array[]> = { stdout: [], stderr: [] };
  let length = 0;
  for await (const event of events) {
    if (event.type === 'exit')
      return resultOf(event.exitCode, event.error, joinBytes(pieces.stdout), joinBytes(pieces.stderr));
    length += event.bytes.byteLength;
    if (length > outputBytesMax) {
      throw new BoxRunError('RESOURCE_EXCEEDED', `the command wrote more than ${outputBytesMax} bytes`, {
        hint: 'read the output as it comes with execStream, or raise outputBytesMax',
      });
    }
    pieces[event.stream].push(event.bytes);
  }
  throw new BoxRunError('UNAVAILABLE', 'the stream of events ended before the command ended');
}

function resultOf(
  exitCode: number | null,
  error: string | null,
  stdoutBytes: Uint8Array,
  stderrBytes: Uint8Array,
): ExecResult {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const result = {
    exitCode,
    error,
    stdout: decoder.decode(stdoutBytes),
    stderr: decoder.decode(stderrBytes),
    stdoutBytes,
    stderrBytes,
  };
  return withHidden(result, { exit_code: exitCode, error_message: error });
}
