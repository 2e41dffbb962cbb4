// Runs one operation on the files of a box for a client, on a stream: it starts the agent's program in the box, passes
// bytes in both directions, and makes reports for the gateway from the records of the program.
import { posix } from 'node:path';
import type { FileOperation } from '../../shared/contracts/files.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import { withDeadline } from '../../shared/waiting/clock.ts';
import { changeOf, createRecordReader, fileOf, type RecordReader } from './file-records.ts';
import { directBytesMin, receiveDirect, sendDirect, type DirectPlace } from './direct-transfer.ts';
import { closeWhenClientLeaves } from './transfer.ts';
import {
  pathArgument,
  startFileProgram,
  type FileDriver,
  type FileProgram,
  type FileWarnings,
} from './file-program.ts';

export interface FilePlace {
  readonly driver: FileDriver;
  /** Null: bytes go over the stream, because the gateway or the box can do nothing else. */
  readonly handOver: DirectPlace['handOver'] | null;
  /** The directory for relative paths. */
  readonly workdir: string;
  /** As in a command; null for root. */
  readonly user: string | null;
}

/**
 * Runs the operation. The last report is `done`.
 * @throws FILE_NOT_FOUND, VALIDATION_ERROR, RUNTIME_ERROR
 */
export async function serveFileOperation(place: FilePlace, operation: FileOperation, stream: ByteStream) {
  const direct = place.handOver === null ? null : { ...place, handOver: place.handOver };
  const args = argumentsOf(operation, place.workdir, direct === null ? 1 : directBytesMin);
  if (direct !== null && (operation.do === 'write' || operation.do === 'unpack')) {
    await stream.control({ type: 'done', ...warningsOf(await receiveDirect(direct, args, stream)) });
    return;
  }
  if (direct !== null && operation.do === 'pack') {
    // The program would say that it begins as its first byte.
    const warnings = await sendDirect(direct, [...args.slice(0, -1), '0'], stream);
    await stream.control({ type: 'done', ...warningsOf(warnings) });
    return;
  }
  const hasInput = operation.do === 'write' || operation.do === 'unpack' || operation.do === 'watch';
  const program = await startFileProgram(place.driver, args, {
    user: place.user,
    hasInput,
  });
  const watching =
    operation.do === 'write' || operation.do === 'unpack' ? null : closeWhenClientLeaves(stream, program);
  try {
    const isCut = await passOn(operation, args, program, stream, direct);
    await stream.control({ type: 'done', ...(isCut ? { isCut } : {}), ...warningsOf(await program.end()) });
  } catch (error) {
    // The program knows better why its answer broke off.
    if (error instanceof BoxRunError && error.code === 'UNAVAILABLE') throw error;
    await program.end();
    throw error;
  } finally {
    watching?.abort();
    await program.close();
  }
}

function warningsOf({ changed, leftOut }: FileWarnings) {
  return { ...(changed.length > 0 ? { changed } : {}), ...(leftOut.length > 0 ? { leftOut } : {}) };
}

/**
 * The words after the version on the command line of the program.
 * @param describes of a read: 1, or the number of bytes from which on the program only describes the file
 */
export function argumentsOf(operation: FileOperation, workdir: string, describes = 1): string[] {
  const at = (path: string) => pathArgument(absolute(path, workdir));
  const flag = (isSet: boolean) => (isSet ? '1' : '0');
  const octal = (mode: number | undefined) => mode?.toString(8) ?? '';
  const path = at(operation.path);
  switch (operation.do) {
    case 'stat':
      return ['stat', path, flag(operation.follow)];
    case 'list':
      return ['list', path, String(operation.limit)];
    case 'read':
      return ['read', path, String(operation.offset), String(operation.bytes ?? -1), String(describes)];
    case 'write':
      return ['write', path, flag(operation.parents), octal(operation.mode), String(operation.mtimeS ?? '')];
    case 'mkdir':
      return ['mkdir', path, octal(operation.mode), flag(operation.parents)];
    case 'rename':
      return ['rename', path, at(operation.to), flag(operation.replace)];
    case 'remove':
      return ['remove', path, flag(operation.recursive)];
    case 'chmod':
      return ['chmod', path, octal(operation.mode)];
    case 'chown':
      return ['chown', path, String(operation.uid), String(operation.gid), flag(operation.follow)];
    case 'pack':
      return ['pack', path, '1'];
    case 'unpack':
      return ['unpack', path, flag(operation.owners)];
    case 'watch':
      return ['watch', path, flag(operation.recursive)];
  }
}

/** `..` stays in the path: what it means depends on links, which only the box knows. */
function absolute(path: string, workdir: string): string {
  if (path === '') throw new BoxRunError('VALIDATION_ERROR', 'the path is empty');
  return path.startsWith('/') ? path : `${posix.join('/', workdir)}/${path}`;
}

/** Characters of records that are sent together. */
const textCharsMax = 64 * 1024;

/** Passes the bytes of the operation on. @returns true if a list has more entries */
async function passOn(
  operation: FileOperation,
  args: readonly string[],
  program: FileProgram,
  stream: ByteStream,
  direct: DirectPlace | null,
): Promise<boolean> {
  if (operation.do === 'write' || operation.do === 'unpack') {
    await receiveInProgram(stream, program);
    return false;
  }
  const records = createRecordReader(program.answer);
  switch (operation.do) {
    case 'stat':
    case 'read': {
      const record = await within(records.next());
      if (record === null) return false; // The end of the program says why.
      const { entry, blocks } = fileOf(record, operation.path);
      const offset = operation.do === 'read' ? Number((await records.take(8)).readBigInt64LE()) : 0;
      await stream.control({ type: 'file', file: entry, offset, hasSize: blocks > 0 });
      const length = operation.do === 'read' ? Math.min(entry.size - offset, operation.bytes ?? Infinity) : 0;
      if (direct !== null && blocks > 0 && length >= directBytesMin) {
        // The program has sent no more than that.
        await sendDirect(direct, ['read', args[1] ?? '', String(offset), String(length), '0'], stream);
        return false;
      }
      for await (const bytes of records.rest()) await stream.send(bytes);
      return false;
    }
    case 'list':
      return sendRecords(records, stream, (record) => JSON.stringify(fileOf(record).entry), ',\n');
    case 'watch':
      return sendRecords(records, stream, changeOf, '');
    case 'pack':
      if (!(await isReady(records))) return false;
      for await (const bytes of records.rest()) await stream.send(bytes);
      return false;
    case 'mkdir':
    case 'rename':
    case 'remove':
    case 'chmod':
    case 'chown':
      return false;
  }
}

/** The program puts one byte before anything else when the operation can begin. */
async function isReady(records: RecordReader): Promise<boolean> {
  return within(
    records.take(1).then(
      () => true,
      () => false,
    ),
  );
}

/** Passes the bytes of the client to a program that writes, when it says that it is ready. */
export async function receiveInProgram(stream: ByteStream, program: FileProgram): Promise<void> {
  if (await isReady(createRecordReader(program.answer))) await receive(stream, program);
}

async function receive(stream: ByteStream, program: FileProgram): Promise<void> {
  for (let item = await stream.next(); item !== null; item = await stream.next())
    if ('bytes' in item && item.bytes.length > 0) await program.write(item.bytes);
  await program.complete();
}

/**
 * Sends texts that are made of records, those of one piece together.
 * @returns true if an empty record says that the list is not complete
 */
async function sendRecords(
  records: RecordReader,
  stream: ByteStream,
  textOf: (record: Buffer) => string,
  between: string,
): Promise<boolean> {
  let text = '';
  let isFirst = true;
  for (;;) {
    if (text !== '' && (!records.hasNext || text.length > textCharsMax)) {
      await stream.send(Buffer.from(text));
      text = '';
    }
    const record = await records.next();
    if (record === null || record.length === 0) {
      if (text !== '') await stream.send(Buffer.from(text));
      return record !== null;
    }
    text += `${isFirst ? '' : between}${textOf(record)}`;
    isFirst = false;
  }
}

function within<T>(work: Promise<T>): Promise<T> {
  return withDeadline(work, limits.fileAnswerMs, 'an answer of the box');
}
