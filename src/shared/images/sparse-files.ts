// Files with holes, as GNU tar -S stores them. Reads the map that says where the data belongs, in each of the four
// forms of GNU tar (tar manual, "Storing Sparse Files"), and gives the content of the file with its zeros.
import { limits } from '../limits.ts';
import type { ByteReader } from './byte-reader.ts';
import { recordOf, type PaxRecord } from './pax.ts';
import { blockBytes, numberField } from './tar.ts';

export interface SparseFile {
  readonly size: number;
  /** The pieces of data in the order of the archive, and where they belong in the file. */
  readonly pieces: ReadonlyArray<{ readonly offset: number; readonly bytes: number }>;
}

export interface SparseHeader {
  readonly file: SparseFile;
  /** Bytes of the stream that the map has used. Except in type S, the size in the tar header includes them. */
  readonly mapBytes: number;
}

const zeros = Buffer.alloc(64 * 1024);

/**
 * The map of an entry, or null if the entry has no holes. In some forms the map is in front of the data; then this
 * reads it from the stream.
 * @throws Error if the map is damaged or too long
 */
export async function readSparse(
  header: Buffer,
  records: readonly PaxRecord[],
  reader: ByteReader,
): Promise<SparseHeader | null> {
  if (header[156] === 'S'.charCodeAt(0)) return readOldForm(header, reader);
  const size = Number(recordOf(records, 'GNU.sparse.realsize') ?? recordOf(records, 'GNU.sparse.size'));
  if (recordOf(records, 'GNU.sparse.major') === '1') {
    const { numbers, mapBytes } = await readNumbers(reader);
    return { file: checked(size, numbers), mapBytes };
  }
  const map = recordOf(records, 'GNU.sparse.map');
  if (map !== undefined) return { file: checked(size, map.split(',').filter(Boolean).map(Number)), mapBytes: 0 };
  const single = records.filter(([key]) => key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes');
  if (single.length > 0)
    return {
      file: checked(
        size,
        single.map(([, value]) => Number(value)),
      ),
      mapBytes: 0,
    };
  return null;
}

/** The content of the file with its zeros. The reader must be at the data of the file; afterwards it is behind it. */
export async function* fillHoles({ size, pieces }: SparseFile, reader: ByteReader): AsyncGenerator<Buffer> {
  let at = 0;
  for (const { offset, bytes } of pieces) {
    yield* zeroBytes(offset - at);
    yield* reader.pass(bytes);
    at = offset + bytes;
  }
  yield* zeroBytes(size - at);
}

export function dataBytes({ pieces }: SparseFile): number {
  return pieces.reduce((sum, { bytes }) => sum + bytes, 0);
}

function* zeroBytes(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= zeros.length) yield zeros.subarray(0, left);
}

/** Type S: the header has four pieces, and each further block has 21. */
async function readOldForm(header: Buffer, reader: ByteReader): Promise<SparseHeader> {
  const numbers: number[] = [];
  const read = (block: Buffer, from: number, count: number) => {
    for (let at = from; at < from + 24 * count && block[at] !== 0; at += 24) {
      numbers.push(numberField(block, at, 12), numberField(block, at + 12, 12));
    }
  };
  read(header, 386, 4);
  let mapBytes = 0;
  for (let hasMore = header[482] !== 0; hasMore;) {
    const block = await mapBlock(reader);
    mapBytes += blockBytes;
    read(block, 0, 21);
    hasMore = block[504] !== 0;
    if (numbers.length > 2 * limits.sparsePiecesMax) throw tooManyPieces();
  }
  return { file: checked(numberField(header, 483, 12), numbers), mapBytes };
}

/** Form 1.0: lines with decimal numbers in front of the data. The first is the number of pieces. Zeros fill a block. */
async function readNumbers(reader: ByteReader): Promise<{ numbers: number[]; mapBytes: number }> {
  const numbers: number[] = [];
  let partial = '';
  let mapBytes = 0;
  for (let wanted = 1; numbers.length < wanted;) {
    const block = await mapBlock(reader);
    mapBytes += blockBytes;
    const lines = (partial + block.toString('latin1')).split('\n');
    partial = lines.pop() ?? '';
    numbers.push(...lines.map(Number));
    wanted = numbers.length === 0 ? 1 : 1 + 2 * (numbers[0] as number);
    if (!(wanted <= 1 + 2 * limits.sparsePiecesMax)) throw tooManyPieces();
    if (partial.length > blockBytes) throw damaged();
    if (numbers.length > wanted) numbers.length = wanted;
  }
  return { numbers: numbers.slice(1), mapBytes };
}

async function mapBlock(reader: ByteReader): Promise<Buffer> {
  const block = await reader.take(blockBytes);
  if (block === null) throw new Error('damaged archive: it ends too early');
  return block;
}

/** The file from a list of numbers: an offset, a length, an offset, and so on. */
function checked(size: number, numbers: readonly number[]): SparseFile {
  if (numbers.length > 2 * limits.sparsePiecesMax) throw tooManyPieces();
  const pieces = Array.from({ length: numbers.length / 2 }, (_, index) => {
    return { offset: numbers[2 * index] as number, bytes: numbers[2 * index + 1] as number };
  });
  let end = 0;
  for (const { offset, bytes } of pieces) {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(bytes) || offset < end || bytes < 0) throw damaged();
    end = offset + bytes;
  }
  if (!Number.isSafeInteger(size) || size < end || numbers.length % 2 !== 0) throw damaged();
  return { size, pieces };
}

function damaged(): Error {
  return new Error('damaged archive: the map of a file with holes is wrong');
}

function tooManyPieces(): Error {
  return new Error(`a file with holes has more than ${limits.sparsePiecesMax} pieces`);
}
