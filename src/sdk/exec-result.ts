// A command run to its end: its exit, and its output as a whole, within a bound. Made by the client's `exec` from the
// events of the command.
import { BoxRunError } from '../shared/errors.ts';
import { joinBytes } from './byte-stream.ts';
import type { ExecEvent } from './event-stream.ts';

export interface ExecResult {
  /** Null where the command did not end by itself; then `error` says why. */
  readonly exitCode: number | null;
  /** Canceled, timed out, or lost; else null. */
  readonly error: string | null;
  /** As UTF-8; what is none becomes U+FFFD. */
  readonly stdout: string;
  readonly stderr: string;
  /** The same, byte for byte. */
  readonly stdoutBytes: Uint8Array;
  readonly stderrBytes: Uint8Array;
}

/** @throws RESOURCE_EXCEEDED when there is more output than `outputBytesMax` */
export async function collectResult(events: AsyncIterable<ExecEvent>, outputBytesMax: number): Promise<ExecResult> {
  const pieces: Record<'stdout' | 'stderr', Uint8Array[]> = { stdout: [], stderr: [] };
  let length = 0;
  for await (const event of events) {
    if (event.type === 'exit')
      return resultOf(event.exitCode, event.error, joinBytes(pieces.stdout), joinBytes(pieces.stderr));
    length += event.bytes.byteLength;
    if (length > outputBytesMax) {
      throw new BoxRunError('RESOURCE_EXCEEDED', `the command wrote more than ${outputBytesMax} bytes`, {
        hint: 'read them as they come with execStream, or raise outputBytesMax',
      });
    }
    pieces[event.stream].push(event.bytes);
  }
  throw new BoxRunError('UNAVAILABLE', 'the stream ended before the command');
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
