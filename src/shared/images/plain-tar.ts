// Makes the tar of a layer plain. Files with holes (GNU tar -S) get their zeros, and files of users or groups above
// 65,535 get the owner nobody. Headers for the whole archive (pax type g) are left out. Every other byte stays the
// same, because names and attributes may contain any bytes. The archive is a stream: the use of memory does not depend
// on its size.
import { boxIdMax } from '../boxes/box-user.ts';
import { limits } from '../limits.ts';
import { createByteReader, type ByteReader } from './byte-reader.ts';
import { packRecords, readRecords, recordOf, type PaxRecord } from './pax.ts';
import { dataBytes, fillHoles, readSparse, type SparseFile, type SparseHeader } from './sparse-files.ts';
import {
  blockBytes,
  checksum,
  headerPath,
  isTarHeader,
  metadataBytesMax,
  numberField,
  octal,
  padding,
  typesWithoutBody,
} from './tar.ts';

/** The id of nobody: the owner, in a box, of files whose own owner no box has. */
export const nobodyId = 65_534;

/** Counts what was not plain in an archive. */
export interface TarFindings {
  /** Files with holes. */
  sparse: number;
  /** Entries whose user or group is above 65,535. */
  foreign: number;
  /** Headers for the whole archive (git archive writes one). They are removed, because unpackers do not know them. */
  globals: number;
  /** The first entry with a foreign owner. */
  firstForeign: { readonly path: string; readonly id: number } | null;
}

interface Entry {
  /** All blocks before the content, unchanged: extended headers, long names, and last the header itself. */
  readonly blocks: readonly Buffer[];
  /** The blocks with GNU's long names. They are also in `blocks`. */
  readonly names: readonly Buffer[];
  readonly records: readonly PaxRecord[];
  readonly header: Buffer;
}

export function noFindings(): TarFindings {
  return { sparse: 0, foreign: 0, globals: 0, firstForeign: null };
}

/**
 * The plain form of an archive. `findings` counts what was changed. An archive without findings is not changed.
 * @throws Error if the archive is damaged, or has more than limits.imageHoleBytesMax of holes
 */
export async function* plainTar(source: AsyncIterable<Buffer>, findings: TarFindings): AsyncGenerator<Buffer> {
  const reader = createByteReader(source);
  let holeBytes = 0;
  for (;;) {
    const entry = await readEntry(reader);
    if (Buffer.isBuffer(entry)) {
      yield entry;
      break;
    }
    if (typeOf(entry.header) === 'g') {
      findings.globals += 1;
      await skip(reader, withPadding(bodyBytes(entry)));
      continue;
    }
    const owners = foreignOwners(entry, findings);
    const sparse = await readSparse(entry.header, entry.records, reader);
    if (sparse !== null) {
      findings.sparse += 1;
      holeBytes += sparse.file.size - dataBytes(sparse.file);
      if (holeBytes > limits.imageHoleBytesMax) throw tooLarge(entry, sparse.file);
      yield* plainSparse(entry, owners, sparse, reader);
      continue;
    }
    if (owners.length === 0) yield* entry.blocks;
    else yield* rewritten(entry, owners, {});
    yield* reader.pass(withPadding(bodyBytes(entry)));
  }
  yield* reader.rest();
}

/** The next entry. At the end of the archive, the block of zeros, or an empty buffer if there is none. */
async function readEntry(reader: ByteReader): Promise<Entry | Buffer> {
  const blocks: Buffer[] = [];
  const names: Buffer[] = [];
  const records: PaxRecord[] = [];
  for (;;) {
    const header = await reader.take(blockBytes);
    if (blocks.length === 0 && (header === null || header.every((byte) => byte === 0)))
      return header ?? Buffer.alloc(0);
    if (header === null) throw new Error('damaged archive: it ends too early');
    if (!isTarHeader(header)) throw new Error('damaged archive: a header is missing or wrong');
    const type = typeOf(header);
    blocks.push(header);
    if (type !== 'x' && type !== 'L' && type !== 'K') return { blocks, names, records, header };
    const size = numberField(header, 124, 12);
    if (!(size <= metadataBytesMax)) throw new Error('damaged archive: a header is too long');
    const body = size === 0 ? Buffer.alloc(0) : await reader.take(size + padding(size));
    if (body === null) throw new Error('damaged archive: it ends too early');
    blocks.push(body);
    if (type === 'x') records.push(...readRecords(body.subarray(0, size)));
    else names.push(header, body);
  }
}

function typeOf(header: Buffer): string {
  return String.fromCharCode(header[156] || 48);
}

function bodyBytes({ header, records }: Entry): number {
  if (typesWithoutBody.has(typeOf(header))) return 0;
  const bytes = Number(recordOf(records, 'size') ?? numberField(header, 124, 12));
  if (!Number.isSafeInteger(bytes) || bytes < 0) throw new Error('damaged archive: a size is not a number');
  return bytes;
}

function withPadding(bytes: number): number {
  return bytes + padding(bytes);
}

async function skip(reader: ByteReader, bytes: number): Promise<void> {
  for await (const piece of reader.pass(bytes)) void piece;
}

const ownerFields = [
  { key: 'uid', offset: 108 },
  { key: 'gid', offset: 116 },
] as const;
type OwnerField = (typeof ownerFields)[number];

function foreignOwners(entry: Entry, findings: TarFindings): OwnerField[] {
  const idOf = ({ key, offset }: OwnerField) =>
    Number(recordOf(entry.records, key) ?? numberField(entry.header, offset, 8));
  // An id that is NaN, negative or too large is not the id of a user of a box.
  const foreign = ownerFields.filter((field) => !(idOf(field) >= 0 && idOf(field) <= boxIdMax));
  const [first] = foreign;
  if (first === undefined) return [];
  findings.foreign += 1;
  findings.firstForeign ??= { path: pathOf(entry), id: idOf(first) };
  return foreign;
}

/** The name of an entry, for messages. */
function pathOf({ header, records, names }: Entry): string {
  const long = names.findIndex((block) => typeOf(block) === 'L' && isTarHeader(block));
  const path = recordOf(records, 'GNU.sparse.name') ?? recordOf(records, 'path');
  if (path !== undefined) return Buffer.from(path, 'latin1').toString('utf8');
  return long < 0 ? headerPath(header) : (names[long + 1] as Buffer).toString('utf8').replace(/\0.*$/s, '');
}

async function* plainSparse(
  entry: Entry,
  owners: readonly OwnerField[],
  { file, mapBytes }: SparseHeader,
  reader: ByteReader,
): AsyncGenerator<Buffer> {
  const stored = bodyBytes(entry) - (typeOf(entry.header) === 'S' ? 0 : mapBytes);
  if (stored !== dataBytes(file)) throw new Error('damaged archive: the map of a file with holes is wrong');
  yield* rewritten(entry, owners, { size: file.size });
  yield* fillHoles(file, reader);
  await skip(reader, padding(stored));
  yield Buffer.alloc(padding(file.size));
}

/**
 * The changed blocks of an entry: nobody becomes the owner for each field in `owners`. With `size`, the entry becomes
 * an ordinary file of this number of bytes.
 */
function* rewritten(
  entry: Entry,
  owners: readonly OwnerField[],
  { size }: { readonly size?: number },
): Generator<Buffer> {
  const header = Buffer.from(entry.header);
  const removedKeys = new Set<string>(owners.map(({ key }) => key));
  let records = [...entry.records];
  for (const { offset } of owners) octal(header, nobodyId, offset, 8);
  if (size !== undefined) {
    const path = recordOf(records, 'GNU.sparse.name');
    removedKeys.add('size');
    records = records.filter(([key]) => !key.startsWith('GNU.sparse.') && !(key === 'path' && path !== undefined));
    if (path !== undefined) records.push(['path', path]);
    if (typeOf(header) === 'S') header.fill(0, 386, 495);
    header.write('0', 156);
    setSize(header, size);
  }
  octal(header, checksum(header), 148, 7);
  header[155] = 32;
  yield packRecords(records.filter(([key]) => !removedKeys.has(key)));
  yield* entry.names;
  yield header;
}

function setSize(header: Buffer, size: number): void {
  if (size < 8 ** 11) return octal(header, size, 124, 12);
  header.fill(0, 124, 136);
  header[124] = 0x80;
  header.writeBigUInt64BE(BigInt(size), 128);
}

function tooLarge(entry: Entry, { size }: SparseFile): Error {
  const limit = `the files of a layer may have ${limits.imageHoleBytesMax / 2 ** 30} GiB of holes together`;
  return new Error(`${pathOf(entry)} has holes and ${size} bytes, and ${limit}`);
}
