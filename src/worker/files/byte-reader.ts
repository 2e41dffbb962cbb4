// A reader of lines and bytes from one stream. It reads only what its caller asks for. The rest stays in the stream, so
// the sender has to wait.
import type { Readable } from 'node:stream';
import { BoxRunError } from '../../shared/errors.ts';

export interface ByteReader {
  /**
   * Returns the next line, without its newline.
   * @throws RUNTIME_ERROR when the stream ends before a newline, or when the line has more than `lineBytesMax` bytes
   */
  nextLine(): Promise<string>;
  /** Returns the next bytes, as many as there are at once. Null at the end of the stream. */
  nextPiece(): Promise<Uint8Array | null>;
}

const lineBytesMax = 2 * 1024 * 1024;
const newline = 0x0a;

export function createByteReader(stream: Readable): ByteReader {
  const pieces = stream.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer, undefined>;
  let rest: Buffer | null = null;

  async function nextPiece(): Promise<Buffer | null> {
    const kept = rest;
    rest = null;
    if (kept !== null && kept.length > 0) return kept;
    const { done, value } = await pieces.next();
    return done === true ? null : value;
  }

  return {
    nextPiece,
    async nextLine() {
      const parts: Buffer[] = [];
      let bytes = 0;
      for (;;) {
        const piece = await nextPiece();
        if (piece === null)
          throw new BoxRunError('RUNTIME_ERROR', 'the output of the script in the box ended too early');
        const end = piece.indexOf(newline);
        parts.push(end < 0 ? piece : piece.subarray(0, end));
        if (end >= 0) {
          rest = piece.subarray(end + 1);
          return Buffer.concat(parts).toString('utf8');
        }
        bytes += piece.length;
        if (bytes > lineBytesMax)
          throw new BoxRunError('RUNTIME_ERROR', 'the script in the box wrote a line that is too long');
      }
    },
  };
}
