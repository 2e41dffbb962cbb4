// Files with holes as GNU tar -S stores them: where their data belongs, in each of the four forms that GNU tar has had
// (tar manual, "Storing Sparse Files"), and the same file with its zeros.
import { limits } from '../limits.ts';
import type { ByteReader } from './byte-reader.ts';
import { recordOf, type PaxRecord } from './pax.ts';
import { blockBytes, numberField } from './tar.ts';

export interface SparseFile {
  readonly size: number;
  /** Where its data belongs, in the order of the archive. */
  readonly pieces: ReadonlyArray<{ readonly offset: number; readonly bytes: number }>;
}

export interface SparseHeader {
  readonly file: SparseFile;
  /** Blocks that the map took out of the stream. */
  readonly mapBytes: number;
}

const zeros = Buffer.alloc(64 * 1024);

/** What the entry says of holes, or null. Reads the map from the stream where it stands in front of the data. */
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

/** The file's content with its zeros. The reader stands at its data, and behind it afterwards. */
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

/** Type S: four pieces in the header, then blocks of 21. */
async function readOldForm(header: Buffer, reader: ByteReader): Promise<SparseHeader> {
  const numbers: number[] = [];
  const read = (block: Buffer, from: number, count: number) => {
    for (let at = from; at < from + 24 * count && block[at] !== 0; at += 24) {
      numbers.push(numberField(block, at, 12), numberField(block, at + 12, 12));
    }
  };
  read(header, 386, 4);
  let mapBytes = 0;
  for (let goesOn = header[482] !== 0; goesOn;) {
    const block = await mapBlock(reader);
    mapBytes += blockBytes;
    read(block, 0, 21);
    goesOn = block[504] !== 0;
    if (numbers.length > 2 * limits.sparsePiecesMax) throw tooManyPieces();
  }
  return { file: checked(numberField(header, 483, 12), numbers), mapBytes };
}

/** Form 1.0: decimal lines in front of the data, how many pieces first, filled up to a block. */
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

/** Offsets and lengths in turn. */
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
