// Collected output of one stream of a run, up to a bound; what is beyond it is cut, and the text says so. All runs
// share one more bound. A character is never cut in half, and no more than a piece is ever text.
import { StringDecoder } from 'node:string_decoder';

export interface OutputText {
  add(bytes: Uint8Array): void;
  /** In pieces. */
  texts(): Generator<string, void, void>;
  /** What is kept. */
  readonly keptBytes: number;
  /** Beyond the bound. */
  readonly lostBytes: number;
}

/** What all streams together may keep. */
export interface OutputPool {
  /** False where so many bytes are not left. */
  take(bytes: number): boolean;
  giveBack(bytes: number): void;
}

export function createOutputPool(bytesMax: number): OutputPool {
  let taken = 0;
  return {
    take(bytes) {
      if (taken + bytes > bytesMax) return false;
      taken += bytes;
      return true;
    },
    giveBack(bytes) {
      taken -= bytes;
    },
  };
}

export function createOutputText(bytesMax: number, pool: Pick<OutputPool, 'take'> | null = null): OutputText {
  const pieces: Uint8Array[] = [];
  let keptBytes = 0;
  let lostBytes = 0;
  return {
    add(bytes) {
      // Behind a hole there is nothing: the text is the beginning of the output.
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
