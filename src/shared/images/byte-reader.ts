// Reads a stream in pieces whose size the caller chooses, for formats with headers. It holds at most the requested
// piece and one chunk of the stream.

export interface ByteReader {
  /** Exactly `bytes` bytes, or null at the end of the stream. @throws Error if the stream ends in the middle of them */
  take(bytes: number): Promise<Buffer | null>;
  /** The next `bytes` bytes, in pieces of any size. @throws Error if the stream ends before */
  pass(bytes: number): AsyncGenerator<Buffer>;
  /** All bytes until the end of the stream. */
  rest(): AsyncGenerator<Buffer>;
}

export function createByteReader(source: AsyncIterable<Buffer>): ByteReader {
  const chunks = source[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);

  /** Between one byte and `most` bytes, or null at the end of the stream. */
  const some = async (most: number): Promise<Buffer | null> => {
    while (held.length === 0) {
      const next = await chunks.next();
      if (next.done === true) return null;
      held = next.value;
    }
    const piece = held.subarray(0, most);
    held = held.subarray(piece.length);
    return piece;
  };

  async function* pass(bytes: number): AsyncGenerator<Buffer> {
    for (let left = bytes; left > 0;) {
      const piece = await some(left);
      if (piece === null) throw new Error('damaged archive: it ends too early');
      left -= piece.length;
      yield piece;
    }
  }

  return {
    async take(bytes) {
      const first = await some(bytes);
      if (first === null || first.length === bytes) return first;
      const pieces = [first];
      for await (const piece of pass(bytes - first.length)) pieces.push(piece);
      return Buffer.concat(pieces);
    },
    pass,
    async *rest() {
      for (let piece = await some(Infinity); piece !== null; piece = await some(Infinity)) yield piece;
    },
  };
}
