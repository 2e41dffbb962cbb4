// The result of a command that has ended: its exit and its whole output, made from its output events.
// The size of the output has a bound, because it is held in memory.
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
  return {
    exitCode,
    error,
    stdout: decoder.decode(stdoutBytes),
    stderr: decoder.decode(stderrBytes),
    stdoutBytes,
    stderrBytes,
  };
}
