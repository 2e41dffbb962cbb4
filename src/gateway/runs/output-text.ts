// Collects the output of one stream of a run, up to a limit. All runs together have a second limit. Output beyond a
// limit is lost, and the text says so at its end. Only one piece at a time is converted to text, to save memory, and
// characters that lie across two pieces stay whole.
import { StringDecoder } from 'node:string_decoder';

export interface OutputText {
  add(bytes: Uint8Array): void;
  /** The kept output as text, in pieces. */
  texts(): Generator<string, void, void>;
  readonly keptBytes: number;
  /** Bytes beyond a limit. */
  readonly lostBytes: number;
}

/** The bytes that the streams of all runs may keep together. */
export interface OutputPool {
  /** Reserves `bytes`; false if the pool does not have so many left. */
  take(bytes: number): boolean;
  /** Releases reserved bytes. */
  release(bytes: number): void;
}

export function createOutputPool(bytesMax: number): OutputPool {
  let taken = 0;
  return {
    take(bytes) {
      if (taken + bytes > bytesMax) return false;
      taken += bytes;
      return true;
    },
    release(bytes) {
      taken -= bytes;
    },
  };
}

/**
 * @param bytesMax bytes that this stream keeps
 * @param pool the second limit, which all runs share; null for none
 */
export function createOutputText(bytesMax: number, pool: Pick<OutputPool, 'take'> | null = null): OutputText {
  const pieces: Uint8Array[] = [];
  let keptBytes = 0;
  let lostBytes = 0;
  return {
    add(bytes) {
      // After the first lost byte nothing more is kept, so the text is always the beginning of the output.
      const kept = lostBytes > 0 ? bytes.subarray(0, 0) : bytes.subarray(0, bytesMax - keptBytes);
      const isTaken = kept.length > 0 && pool?.take(kept.length) !== false;
      if (isTaken) pieces.push(kept);
      if (isTaken) keptBytes += kept.length;
      lostBytes += bytes.length - (isTaken ? kept.length : 0);
    },
    *texts() {
      const decoder = new StringDecoder('utf8');
      for (const piece of pieces) yield decoder.write(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
      yield decoder.end();
      if (lostBytes > 0) yield `\n[boxrun: output cut after ${keptBytes} bytes]\n`;
    },
    get keptBytes() {
      return keptBytes;
    },
    get lostBytes() {
      return lostBytes;
    },
  };
}
