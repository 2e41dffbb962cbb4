// Extended headers of tar archives (POSIX pax): reads and writes their records. Values are decoded as latin1, so that
// every byte is kept: a name may contain any bytes.
import { metadataBytesMax, octal, blockBytes, checksum, padding } from './tar.ts';

export type PaxRecord = readonly [key: string, value: string];

/** @throws Error if `content` is damaged */
export function readRecords(content: Buffer): PaxRecord[] {
  const records: PaxRecord[] = [];
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(32, at);
    const length = Number(content.toString('latin1', at, space));
    if (space < 0 || !Number.isInteger(length) || length <= 0) throw new Error('damaged archive: bad extended header');
    const record = content.toString('latin1', space + 1, at + length - 1);
    const equals = record.indexOf('=');
    records.push([record.slice(0, equals), record.slice(equals + 1)]);
    at += length;
  }
  return records;
}

/** The value of the last record with this key, because that one counts. */
export function recordOf(records: readonly PaxRecord[], key: string): string | undefined {
  return records.findLast(([name]) => name === key)?.[1];
}

/** An extended header with these records, as blocks of an archive. Without records, an empty buffer. */
export function packRecords(records: readonly PaxRecord[]): Buffer {
  if (records.length === 0) return Buffer.alloc(0);
  const content = Buffer.from(records.map(packRecord).join(''), 'latin1');
  if (content.length > metadataBytesMax) throw new Error('damaged archive: a header is too long');
  const block = Buffer.alloc(blockBytes);
  block.write('PaxHeaders/0', 0);
  octal(block, 0o644, 100, 8);
  for (const offset of [108, 116]) octal(block, 0, offset, 8);
  octal(block, content.length, 124, 12);
  octal(block, 0, 136, 12);
  block.write('x', 156);
  block.write('ustar\u000000', 257);
  block.fill(' ', 148, 156);
  octal(block, checksum(block), 148, 7);
  return Buffer.concat([block, content, Buffer.alloc(padding(content.length))]);
}

/** A record begins with its own length, which includes the digits of the length. */
function packRecord([key, value]: PaxRecord): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}
