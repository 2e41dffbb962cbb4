// Reads the records that the agent's program answers with, and makes the values of the API from them. Pure. The program
// runs in the box, so a record may have anything in it: what cannot be true ends the operation.
import { isUtf8 } from 'node:buffer';
import type { FileEntry } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';

const types: Readonly<Record<string, FileEntry['type']>> = {
  f: 'file',
  d: 'directory',
  l: 'link',
  p: 'fifo',
  s: 'socket',
  c: 'character_device',
  b: 'block_device',
};
/** Bytes of an entry before its name. */
const entryHeadBytes = 56;
const recordBytesMax = 64 * 1024;

/** One file, and what the API does not show of it. */
export interface FoundFile {
  readonly entry: FileEntry;
  readonly blocks: number;
  readonly mode: number;
  readonly mtimeS: number;
}

/** Takes records and bytes from pieces of any length. */
export interface RecordReader {
  /** The next record without its length. Null at the end of the pieces. An empty record is possible. */
  next(): Promise<Buffer | null>;
  /** True if the next record has come completely. */
  readonly hasNext: boolean;
  /** The next `count` bytes. */
  take(count: number): Promise<Buffer>;
  /** What is left of the present piece, then the other pieces. */
  rest(): AsyncGenerator<Buffer, void, void>;
}

export function createRecordReader(pieces: AsyncIterator<Buffer>): RecordReader {
  let held: Buffer = Buffer.alloc(0);

  /** Reads until there are `count` bytes. @returns false at the end of the pieces */
  async function fill(count: number): Promise<boolean> {
    const parts = [held];
    for (let bytes = held.length; bytes < count;) {
      const piece = await pieces.next();
      if (piece.done === true) {
        held = Buffer.concat(parts);
        return false;
      }
      parts.push(piece.value);
      bytes += piece.value.length;
    }
    if (parts.length > 1) held = Buffer.concat(parts);
    return true;
  }

  function cut(count: number): Buffer {
    const bytes = held.subarray(0, count);
    held = held.subarray(count);
    return bytes;
  }

  async function take(count: number): Promise<Buffer> {
    if (!(await fill(count))) throw broken('the answer of the box ended too early');
    return cut(count);
  }

  return {
    take,
    get hasNext() {
      return held.length >= 4 && held.length >= 4 + held.readUInt32LE();
    },
    async next() {
      if (!(await fill(4))) {
        if (held.length > 0) throw broken('the answer of the box ended too early');
        return null;
      }
      const bytes = cut(4).readUInt32LE();
      if (bytes > recordBytesMax) throw broken('a record of the box is too long');
      return take(bytes);
    },
    async *rest() {
      const first = held;
      held = Buffer.alloc(0);
      if (first.length > 0) yield first;
      for (let piece = await pieces.next(); piece.done !== true; piece = await pieces.next()) yield piece.value;
    },
  };
}

/**
 * @param path in the answer to `stat`: the entry gets its last name
 * @throws RUNTIME_ERROR if it cannot be an entry
 */
export function fileOf(record: Buffer, path?: string): FoundFile {
  if (record.length < entryHeadBytes - 4) throw broken('a record of the box is too short');
  const number = (at: number) => record.readUInt32LE(4 * at);
  const large = (at: number) => Number(record.readBigUInt64LE(28 + 8 * at));
  const type = types[String.fromCharCode(number(0) & 0xff)];
  const [mode, nameBytes] = [number(1), number(6)];
  const [size, blocks] = [large(0), large(1)];
  const seconds = Number(record.readBigInt64LE(44));
  const nameEnd = entryHeadBytes - 4 + nameBytes;
  if (type === undefined || mode > 0o7777 || nameEnd > record.length || number(5) >= 1e9 || !Number.isSafeInteger(size))
    throw broken('a record of the box is wrong');
  const name = path === undefined ? record.subarray(entryHeadBytes - 4, nameEnd) : Buffer.from(lastName(path));
  const target = record.subarray(nameEnd);
  const entry = {
    name: name.toString(),
    ...(isUtf8(name) ? {} : { name_base64: name.toString('base64') }),
    type,
    size,
    mode: mode.toString(8).padStart(4, '0'),
    uid: number(2),
    gid: number(3),
    links: number(4),
    modified_at: timeOf(seconds, number(5)),
    ...(type === 'link' ? { target: target.toString() } : {}),
  };
  return { entry, blocks, mode, mtimeS: seconds };
}

function lastName(path: string): string {
  return path.replace(/\/+$/, '').split('/').at(-1) || '/';
}

/** The time of a file system can be later than a Date can be. */
function timeOf(seconds: number, nanoseconds: number): string {
  const milliseconds = seconds * 1000 + Math.floor(nanoseconds / 1e6);
  const latest = 253_402_300_799_999; // The end of the year 9999.
  return new Date(Math.min(Math.max(milliseconds, -latest), latest)).toISOString();
}

const changes: Readonly<Record<string, string>> = {
  r: 'ready',
  c: 'created',
  m: 'modified',
  w: 'written',
  a: 'attributes',
  f: 'moved_from',
  t: 'moved_to',
  d: 'removed',
  o: 'overflow',
};

/** One change of a watch, as a line of JSON. @throws RUNTIME_ERROR if it cannot be one */
export function changeOf(record: Buffer): string {
  const type = changes[String.fromCharCode(record[0] ?? 0)];
  if (type === undefined || record.length < 2) throw broken('a record of the box is wrong');
  return `${JSON.stringify({ type, path: record.subarray(2).toString(), is_directory: record[1] === 1 })}\n`;
}

function broken(message: string): BoxRunError {
  return new BoxRunError('RUNTIME_ERROR', message);
}
