// The buffer between a command's output and the writer. It numbers the events without a gap, joins small reads, and
// does not split characters. Bytes are unchanged and in order, up to a bound. At the bound, an event says that the rest
// is dropped.
import type { Event } from '../../shared/contracts/writer.ts';
import { limits } from '../../shared/limits.ts';

export type OutputStream = 'stdout' | 'stderr';

export interface OutputBuffer {
  /** Adds bytes. They are sent after limits.outputFlushMs, or as soon as limits.outputFlushBytes wait. */
  write(stream: OutputStream, bytes: Uint8Array): void;
  /**
   * Sends all bytes that wait, incomplete characters too. Then sends the exit event as the last one.
   * @param exit makes the data of the exit event from the number of dropped bytes
   */
  end(exit: (droppedBytes: number) => string): void;
}

interface Segment {
  readonly stream: OutputStream;
  readonly pieces: Uint8Array[];
}

/**
 * The length of the longest prefix of `bytes` that does not end inside a UTF-8 character. At most 3 bytes are left
 * over. Bytes that can never become a character count as complete.
 */
export function wholeCharactersLength(bytes: Uint8Array): number {
  const last = bytes.length;
  for (let back = 1; back <= Math.min(3, last); back++) {
    const byte = bytes[last - back] as number;
    if ((byte & 0b1100_0000) === 0b1000_0000) continue; // A continuation byte: look for the first byte.
    const length =
      byte >= 0xf0 && byte < 0xf8 ? 4 : byte >= 0xe0 && byte < 0xf0 ? 3 : byte >= 0xc2 && byte < 0xe0 ? 2 : 1;
    return length > back ? last - back : last;
  }
  return last;
}

interface OutputBufferOptions {
  /** Gets the events in the order of seq. `byteCount`: how many bytes of the command's output the event has. */
  readonly emit: (event: Event, byteCount: number) => void;
  /** Told of bytes that are in no event. */
  readonly onDropped?: (stream: OutputStream, byteCount: number) => void;
  /** The most bytes of output in all events together; the text that says "output cut" comes on top. */
  readonly bytesMax: number;
  /** For a command of an earlier worker: the seq of its next event, and the bytes of the events that it has. */
  readonly earlier?: { readonly nextSeq: number; readonly bytes: number } | undefined;
}

export function createOutputBuffer({ emit, onDropped, bytesMax, earlier }: OutputBufferOptions): OutputBuffer {
  /** The first bytes of a character whose other bytes have not come yet. */
  const carries: Record<OutputStream, Uint8Array> = { stdout: new Uint8Array(0), stderr: new Uint8Array(0) };
  let segments: Segment[] = [];
  let waitingBytes = 0;
  let nextSeq = earlier?.nextSeq ?? 0;
  let keptBytes = Math.min(earlier?.bytes ?? 0, bytesMax);
  let droppedBytes = 0;
  let timer: NodeJS.Timeout | undefined;

  /** True while the text that says "output cut" is sent. */
  let isOwnText = false;

  function append(stream: OutputStream, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    waitingBytes += bytes.length;
    const lastSegment = segments.at(-1);
    if (lastSegment?.stream === stream) lastSegment.pieces.push(bytes);
    else segments.push({ stream, pieces: [bytes] });
  }

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    for (const { stream, pieces } of segments) {
      let rest: Uint8Array = pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
      while (rest.length > 0) {
        const piece = rest.subarray(0, limits.eventBytesMax);
        const length = rest.length > piece.length ? wholeCharactersLength(piece) || piece.length : piece.length;
        emit({ seq: nextSeq++, type: 'log', stream, data: rest.subarray(0, length) }, isOwnText ? 0 : length);
        rest = rest.subarray(length);
      }
    }
    segments = [];
    waitingBytes = 0;
  }

  /** Also sends the bytes of incomplete characters. */
  function flushAll(): void {
    for (const stream of ['stdout', 'stderr'] as const) {
      append(stream, carries[stream]);
      carries[stream] = new Uint8Array(0);
    }
    flush();
  }

  function countDropped(stream: OutputStream, byteCount: number): void {
    if (byteCount === 0) return;
    if (droppedBytes === 0) {
      flushAll();
      append('stderr', Buffer.from(`\n[boxrun: output cut after ${bytesMax} bytes; the command goes on]\n`));
      isOwnText = true;
      flush();
      isOwnText = false;
    }
    droppedBytes += byteCount;
    onDropped?.(stream, byteCount);
  }

  return {
    write(stream, all) {
      const bytes = all.subarray(0, bytesMax - keptBytes);
      keptBytes += bytes.length;
      const carry = carries[stream];
      const joined = carry.length === 0 ? bytes : Buffer.concat([carry, bytes]);
      const length = wholeCharactersLength(joined);
      carries[stream] = joined.slice(length);
      append(stream, joined.subarray(0, length));
      if (waitingBytes >= limits.outputFlushBytes) flush();
      else if (waitingBytes > 0) timer ??= setTimeout(flush, limits.outputFlushMs);
      countDropped(stream, all.length - bytes.length);
    },
    end(exit) {
      flushAll();
      emit({ seq: nextSeq++, type: 'exit', stream: null, data: Buffer.from(exit(droppedBytes)) }, 0);
    },
  };
}
