// Files into and out of a box: by the agent's program where the box has it, otherwise by scripts. Which way it is shows
// before the first byte is passed on, so the other way can still take the whole transfer.
import { posix } from 'node:path';
import type { FileOperation } from '../../shared/contracts/files.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import { withDeadline } from '../../shared/waiting/clock.ts';
import { directBytesMin, receiveDirect, sendDirect } from './direct-transfer.ts';
import { argumentsOf, receiveInProgram, serveFileOperation } from './file-operations.ts';
import { lacksFileProgram, startFileProgram } from './file-program.ts';
import { createRecordReader, fileOf } from './file-records.ts';
import { packByScript, receiveByScript, sendByScript, unpackByScript } from './scripted-files.ts';
import { closeWhenClientLeaves, filePath, sendContent, type BoxFilesDeps, type UploadedAs } from './transfer.ts';

const asRoot = { user: null } as const;

/**
 * Writes the bytes of the stream into a file of the box. Links are followed.
 * @param path in the box; a relative path starts at the workdir
 * @throws VALIDATION_ERROR when the path cannot be that of a file, RUNTIME_ERROR with what the box says
 */
export async function receiveUpload(
  files: BoxFilesDeps,
  path: string,
  stream: ByteStream,
  { mode, mtimeS }: UploadedAs = {},
): Promise<void> {
  const file = filePath(path, files.workdir);
  const attributes = { ...(mode === undefined ? {} : { mode }), ...(mtimeS === undefined ? {} : { mtimeS }) };
  await withoutProgram(
    async () => {
      const args = argumentsOf({ do: 'write', path: file, parents: true, ...attributes }, '/');
      if (files.handOver !== null) {
        await receiveDirect({ ...files, ...asRoot, handOver: files.handOver }, args, stream);
        await stream.control({ type: 'done' });
        return;
      }
      const program = await startFileProgram(files.driver, args, { ...asRoot, hasInput: true });
      try {
        await receiveInProgram(stream, program);
        await program.end();
        await stream.control({ type: 'done' });
      } catch (error) {
        throw asTransferError(error, path);
      } finally {
        await program.close();
      }
    },
    () => receiveByScript(files, path, stream, attributes),
  );
}

/**
 * Sends the bytes of a file of the box over the stream. If the file grows meanwhile, the new bytes are not sent.
 * @throws as receiveUpload
 */
export async function sendDownload(files: BoxFilesDeps, path: string, stream: ByteStream): Promise<void> {
  const file = filePath(path, files.workdir);
  await withoutProgram(
    async () => {
      const { handOver } = files;
      const operation: FileOperation = { do: 'read', path: file, offset: 0, bytes: null };
      const args = argumentsOf(operation, '/', handOver === null ? 1 : directBytesMin);
      const program = await startFileProgram(files.driver, args, { ...asRoot, hasInput: false });
      const watching = closeWhenClientLeaves(stream, program);
      try {
        const records = createRecordReader(program.answer);
        const record = await withDeadline(records.next(), limits.fileAnswerMs, 'an answer of the box');
        if (record === null) await program.end();
        else {
          const { entry, blocks, mode, mtimeS } = fileOf(record, file);
          await records.take(8);
          // A file without blocks on a disk is empty, or it is a file of the kernel, whose length is not known.
          const { size } = entry;
          if (handOver !== null && blocks > 0 && size >= directBytesMin) {
            // The program has sent no more than that.
            await stream.control({ type: 'size', bytes: size, mode, mtimeS });
            await sendDirect(
              { ...files, ...asRoot, handOver },
              ['read', args[1] ?? '', '0', String(size), '0'],
              stream,
            );
          } else await sendContent(records.rest(), { size: blocks === 0 ? 0 : size, mode, mtimeS }, stream);
        }
      } catch (error) {
        if (error instanceof BoxRunError && error.code === 'UNAVAILABLE') throw error;
        await program.end().catch((reason: unknown) => {
          throw asTransferError(reason, path);
        });
        throw asTransferError(error, path);
      } finally {
        watching.abort();
        await program.close();
      }
    },
    () => sendByScript(files, path, stream),
  );
}

/**
 * Runs an operation on files. A box without the agent's program can still pack and unpack a directory.
 * @param user as in a command; null for root
 * @throws as serveFileOperation
 */
export async function serveFiles(
  files: BoxFilesDeps,
  { operation, user }: { readonly operation: FileOperation; readonly user: string | null },
  stream: ByteStream,
): Promise<void> {
  await withoutProgram(
    () => serveFileOperation({ ...files, user }, operation, stream),
    async (error) => {
      const directory = operation.path.startsWith('/') ? operation.path : posix.join(files.workdir, operation.path);
      if (user !== null || (operation.do !== 'pack' && operation.do !== 'unpack')) throw error;
      await (operation.do === 'pack' ? packByScript : unpackByScript)(files, directory, stream);
    },
  );
}

async function withoutProgram(work: () => Promise<void>, otherwise: (error: unknown) => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!lacksFileProgram(error)) throw error;
    await otherwise(error);
  }
}

/**
 * Uploads and downloads are older than FILE_NOT_FOUND. Their clients expect RUNTIME_ERROR for a file that is missing.
 */
function asTransferError(error: unknown, path: string): unknown {
  if (!(error instanceof BoxRunError) || error.code !== 'FILE_NOT_FOUND') return error;
  return new BoxRunError('RUNTIME_ERROR', `'${path}': no such file`, { cause: error });
}
