// The part of the tar format that images need: writes small archives, the same bytes for the same files, and reads the
// headers of archives of other programs. Nothing here writes to a path that an archive names.
import { Transform, type TransformCallback } from 'node:stream';

export const blockBytes = 512;
export const metadataBytesMax = 1024 * 1024;

export interface TarFile {
  /** Relative, without a leading slash or dot. */
  readonly path: string;
  readonly mode: number;
  readonly type: 'file' | 'directory' | 'symlink';
  readonly content?: Buffer;
  readonly target?: string;
}

/** An archive without compression. The owner is root and the time is 0, so that equal files give equal bytes. */
export function packTar(files: readonly TarFile[]): Buffer {
  const blocks: Buffer[] = [];
  for (const file of files) {
    const content = file.content ?? Buffer.alloc(0);
    blocks.push(header(file, content.length), content, Buffer.alloc(padding(content.length)));
  }
  blocks.push(Buffer.alloc(2 * blockBytes));
  return Buffer.concat(blocks);
}

function header(file: TarFile, size: number): Buffer {
  const block = Buffer.alloc(blockBytes);
  const path = file.type === 'directory' ? `${file.path}/` : file.path;
  if (Buffer.byteLength(path) > 100 || Buffer.byteLength(file.target ?? '') > 100) {
    throw new RangeError(`path too long for a plain header: ${path}`);
  }
  block.write(path, 0);
  octal(block, file.mode, 100, 8);
  octal(block, 0, 108, 8);
  octal(block, 0, 116, 8);
  octal(block, size, 124, 12);
  octal(block, 0, 136, 12);
  block.write({ file: '0', symlink: '2', directory: '5' }[file.type], 156);
  block.write(file.target ?? '', 157);
  block.write('ustar\u000000', 257);
  block.fill(' ', 148, 156);
  octal(block, checksum(block), 148, 7);
  return block;
}

export function octal(block: Buffer, value: number, offset: number, length: number): void {
  block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset);
}

export function checksum(block: Buffer): number {
  let sum = 0;
  for (let at = 0; at < blockBytes; at += 1) sum += at >= 148 && at < 156 ? 32 : (block[at] as number);
  return sum;
}

export function padding(size: number): number {
  return (blockBytes - (size % blockBytes)) % blockBytes;
}

export interface TarEntry {
  readonly path: string;
  /** The type flag of the header, such as '0' file, '1' hard link, '2' symlink, '5' directory. */
  readonly type: string;
  readonly size: number;
}

/** Links, devices, directories and FIFOs: no content follows their header, even if it names a size. */
export const typesWithoutBody = new Set(['1', '2', '3', '4', '5', '6']);

/** True if a block is the header of an entry: its checksum is right, and it is not the end of the archive. */
export function isTarHeader(block: Buffer): boolean {
  if (block.length < blockBytes || block[0] === 0) return false;
  return parseInt(text(block, 148, 8), 8) === checksum(block);
}

/**
 * Makes a stream that passes an archive on unchanged and calls `onEntry` for each entry. If `onEntry` returns a
 * function, that function gets the content of the entry. The stream fails if the archive is damaged or if `onEntry`
 * throws.
 */
export function createTarWalker(onEntry: (entry: TarEntry) => ((chunk: Buffer) => void) | undefined): Transform {
  let pending: Buffer = Buffer.alloc(0);
  let body: { left: number; pad: number; take: ((chunk: Buffer) => void) | undefined } | null = null;
  const override: { path?: string; size?: number } = {};
  let ended = false;

  const openHeader = (block: Buffer) => {
    if (block.every((byte) => byte === 0)) {
      ended = true;
      return;
    }
    if (!isTarHeader(block)) throw new Error('damaged archive: a header is missing or wrong');
    const type = String.fromCharCode(block[156] || 48);
    const size = numberField(block, 124, 12);
    if (type === 'x' || type === 'g' || type === 'L' || type === 'K') {
      if (size > metadataBytesMax) throw new Error('damaged archive: a header is too long');
      const parts: Buffer[] = [];
      body = { left: size, pad: padding(size), take: (chunk) => parts.push(Buffer.from(chunk)) };
      finish = () => {
        readMetadata(type, Buffer.concat(parts), override);
      };
      return;
    }
    const entry = { path: override.path ?? headerPath(block), type, size: override.size ?? size };
    delete override.path;
    delete override.size;
    const bytes = typesWithoutBody.has(type) ? 0 : entry.size;
    const take = onEntry(entry);
    body = { left: bytes, pad: padding(bytes), take };
  };
  let finish: (() => void) | null = null;

  const consume = () => {
    for (;;) {
      if (ended) {
        pending = Buffer.alloc(0);
        return;
      }
      if (body === null) {
        if (pending.length < blockBytes) return;
        const block = pending.subarray(0, blockBytes);
        pending = pending.subarray(blockBytes);
        openHeader(block);
        continue;
      }
      if (body.left > 0) {
        if (pending.length === 0) return;
        const piece = pending.subarray(0, body.left);
        body.take?.(piece);
        body.left -= piece.length;
        pending = pending.subarray(piece.length);
        continue;
      }
      if (pending.length < body.pad) return;
      pending = pending.subarray(body.pad);
      body = null;
      finish?.();
      finish = null;
    }
  };

  return new Transform({
    transform(chunk: Buffer, _encoding, done: TransformCallback) {
      try {
        pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
        consume();
        done(null, chunk);
      } catch (error) {
        done(error as Error);
      }
    },
    flush(done: TransformCallback) {
      done(ended || (body === null && pending.length === 0) ? null : new Error('damaged archive: it ends too early'));
    },
  });
}

function readMetadata(type: string, content: Buffer, override: { path?: string; size?: number }): void {
  if (type === 'L') override.path = content.toString('utf8').replace(/\0.*$/s, '');
  if (type !== 'x') return;
  let at = 0;
  while (at < content.length) {
    const space = content.indexOf(32, at);
    const length = Number(content.toString('latin1', at, space));
    if (space < 0 || !Number.isInteger(length) || length <= 0) throw new Error('damaged archive: bad extended header');
    const record = content.toString('utf8', space + 1, at + length - 1);
    const equals = record.indexOf('=');
    const key = record.slice(0, equals);
    if (key === 'path') override.path = record.slice(equals + 1);
    if (key === 'size') override.size = Number(record.slice(equals + 1));
    at += length;
  }
}

export function headerPath(block: Buffer): string {
  const prefix = block.toString('latin1', 257, 262) === 'ustar' && block[262] === 0 ? text(block, 345, 155) : '';
  const name = text(block, 0, 100);
  return prefix === '' ? name : `${prefix}/${name}`;
}

/** A number in a header: octal digits, or big-endian binary for a large number (GNU). NaN if it is neither. */
export function numberField(block: Buffer, offset: number, length: number): number {
  const first = block[offset] as number;
  if ((first & 0x80) === 0) return parseInt(text(block, offset, length) || '0', 8);
  let value = first & 0x7f;
  for (let at = offset + 1; at < offset + length; at += 1) value = value * 256 + (block[at] as number);
  return value;
}

function text(block: Buffer, offset: number, length: number): string {
  return block
    .toString('utf8', offset, offset + length)
    .replace(/\0.*$/s, '')
    .trim();
}
