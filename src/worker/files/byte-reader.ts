// Lines and bytes out of one stream, as they are asked for. What is not asked for stays in the stream, which gives
// back-pressure. Used by box-files.ts to talk with its scripts.
import type { Readable } from 'node:stream';
import { BoxRunError } from '../../shared/errors.ts';

export interface ByteReader {
  /** The next line without its end. @throws RUNTIME_ERROR when the stream ends before one, or the line is too long */
  line(): Promise<string>;
  /** Whatever comes next; null at the end. */
  some(): Promise<Uint8Array | null>;
}

const lineBytesMax = 2 * 1024 * 1024;
const newline = 0x0a;

export function createByteReader(stream: Readable): ByteReader {
  const pieces = stream.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer, undefined>;
  let rest: Buffer | null = null;

  async function some(): Promise<Buffer | null> {
    const kept = rest;
    rest = null;
    if (kept !== null && kept.length > 0) return kept;
    const { done, value } = await pieces.next();
    return done === true ? null : value;
  }

  return {
    some,
    async line() {
      const parts: Buffer[] = [];
      let bytes = 0;
      for (;;) {
        const piece = await some();
        if (piece === null) throw new BoxRunError('RUNTIME_ERROR', 'the box ended the conversation');
        const end = piece.indexOf(newline);
        parts.push(end < 0 ? piece : piece.subarray(0, end));
        if (end >= 0) {
          rest = piece.subarray(end + 1);
          return Buffer.concat(parts).toString('utf8');
        }
        bytes += piece.length;
        if (bytes > lineBytesMax) throw new BoxRunError('RUNTIME_ERROR', 'the box said too much');
      }
    },
  };
}
