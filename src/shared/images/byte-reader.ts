// Reads a stream in pieces of a wanted size, for formats with headers. It holds no more than the piece that is asked
// for and one chunk of the stream.

export interface ByteReader {
  /** Exactly so many bytes; null where the stream has ended. @throws Error when it ends within them */
  take(bytes: number): Promise<Buffer | null>;
  /** So many bytes, in pieces as they come. @throws Error when the stream ends within them */
  pass(bytes: number): AsyncGenerator<Buffer>;
  rest(): AsyncGenerator<Buffer>;
}

export function createByteReader(source: AsyncIterable<Buffer>): ByteReader {
  const chunks = source[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);

  /** At least one byte and at most `most`; null at the end. */
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
