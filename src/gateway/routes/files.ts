// The operations for uploads and downloads. The bytes flow between the client and the box's worker at the speed of the
// slower side. Neither the gateway nor the worker ever holds a whole file in memory. If a download breaks off, the
// gateway closes the connection, so that the client does not take the part for the whole file.
import type { FastifyReply } from 'fastify';
import type { Readable } from 'node:stream';
import { posix } from 'node:path';
import { Type } from 'typebox';
import { DownloadBody, UploadResult } from '../../shared/api.ts';
import { drained } from '../../shared/waiting/drained.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { readUpload, type UploadPlace } from '../http/multipart.ts';
import type { GatewayParts } from '../parts.ts';
import { createSpools } from '../http/spools.ts';
import { announcedLength, itemsFromBox, sendToBox } from '../live/carried-bytes.ts';
import { attachment, takePlace } from '../live/transfer.ts';
import { nextReport, openWorkerStream, reasonOfBreak, type WorkerItem } from '../live/worker-stream.ts';
import { boxErrors, json, text, type Operations } from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

export const fileOperations = {
  upload: {
    method: 'post',
    path: '/v1/boxes/{box}/files/upload',
    summary: 'Upload a file into a box',
    body: {
      schema: Type.Object({
        file: Type.Unsafe({ type: 'string', contentMediaType: 'application/octet-stream' }),
        dest: Type.String({ minLength: 1 }),
        mode: Type.Optional(
          Type.String({
            pattern: '^[0-7]{1,5}$',
            description: 'The permission bits in octal. It comes before `file`.',
          }),
        ),
        mtime: Type.Optional(
          Type.Number({
            minimum: 0,
            maximum: 0xffff_ffff,
            description: 'Seconds since 1970: the time of the last change. It comes before `file`.',
          }),
        ),
      }),
      required: true,
      contentType: 'multipart/form-data',
    },
    example: { body: { file: '@notes.txt', dest: '/root/notes.txt' } },
    answers: { 200: json('The file is in the box', UploadResult) },
    errors: [...boxErrors, 'BOX_NOT_RUNNING'],
  },
  download: {
    method: 'post',
    path: '/v1/boxes/{box}/files/download',
    summary: 'Download a file from a box',
    body: { schema: DownloadBody, required: true },
    example: { body: { path: '/root/notes.txt' } },
    answers: {
      200: {
        description: 'The bytes of the file',
        content: { 'application/octet-stream': text },
        headers: ['X-BoxRun-Mode', 'Last-Modified'],
      },
    },
    errors: [...boxErrors, 'BOX_NOT_RUNNING'],
  },
} as const satisfies Operations;

export function createFileHandlers(parts: GatewayParts): HandlersOf<typeof fileOperations> {
  const spools = createSpools(parts.config.stateDir, parts.config.caps.freeDiskMb);
  return {
    upload: async ({ request, reply, path: { box } }) => {
      if (!/^multipart\/form-data/i.test(request.headers['content-type'] ?? '')) {
        throw new BoxRunError('UNSUPPORTED_MEDIA_TYPE', 'the body must be a form', {
          hint: 'send Content-Type: multipart/form-data',
        });
      }
      takePlace(parts, reply);
      const work = readUpload(request.raw, spools, (file, dest) =>
        upload(parts, { box, ...dest, requestId: request.id, bytes: announcedLength(request.headers) }, file),
      );
      // The supervisor is asked for the reason only after readUpload has closed the form. While the form is open, its
      // own errors could reach the client before that reason.
      const dest = await whileProcessing(
        reply,
        work.catch(async (error: unknown) => {
          // The path does not matter here, only the state of the box.
          throw await reasonOfBreak(parts, box, { kind: 'upload', path: '/' }, error);
        }),
      );
      return { ok: true, dest };
    },

    download: async ({ request, reply, path: { box }, body }) => {
      const { path } = body();
      const operation = { kind: 'download', path, direct: true } as const;
      takePlace(parts, reply);
      const stream = await openWorkerStream(parts, box, operation, { requestId: request.id });
      const onGone = () => {
        stream.close();
      };
      reply.raw.once('close', onGone);
      try {
        const begun = await whileProcessing(reply, beginDownload(stream));
        reply.hijack();
        await sendFile(reply, { ...begun, name: posix.basename(path) });
      } catch (error) {
        if (!reply.raw.headersSent) throw await reasonOfBreak(parts, box, operation, error);
        const known = toBoxRunError(error);
        if (!reply.raw.destroyed) request.log.warn({ err: known, requestId: request.id }, 'a download broke off');
        reply.raw.destroy();
      } finally {
        reply.raw.off('close', onGone);
        stream.close();
      }
      return reply;
    },
  };
}

interface UploadTarget extends UploadPlace {
  readonly box: string;
  readonly requestId: string;
  /** The length of the form. */
  readonly bytes: number | null;
}

async function upload(
  parts: GatewayParts,
  { box, requestId, bytes, ...place }: UploadTarget,
  file: Readable,
): Promise<void> {
  await sendToBox(parts, box, { kind: 'upload', ...place }, file, { requestId, bytes });
}

interface BegunDownload {
  /** The length of the file in bytes; null if it is unknown. */
  readonly bytes: number | null;
  readonly mode?: number | undefined;
  readonly mtimeS?: number | undefined;
  readonly items: AsyncGenerator<WorkerItem, void, void>;
  readonly first: IteratorResult<WorkerItem, void>;
}

/** Reads the first item before the headers are sent, so that an error until then can still be an error answer. */
async function beginDownload(stream: ByteStream): Promise<BegunDownload> {
  const { bytes, mode, mtimeS } = await nextReport(stream, 'size');
  const items = itemsFromBox(stream);
  return { bytes, mode, mtimeS, items, first: await items.next() };
}

/** @throws RUNTIME_ERROR if the file became shorter meanwhile */
async function sendFile({ raw }: FastifyReply, file: BegunDownload & { readonly name: string }): Promise<void> {
  raw.writeHead(200, {
    ...attachment(file.name),
    ...(file.bytes === null ? {} : { 'content-length': file.bytes }),
    ...(file.mode === undefined ? {} : { 'x-boxrun-mode': file.mode.toString(8).padStart(4, '0') }),
    ...(file.mtimeS === undefined ? {} : { 'last-modified': new Date(file.mtimeS * 1000).toUTCString() }),
  });
  let bytes = 0;
  for (let item = file.first; item.done !== true; item = await file.items.next()) {
    if (!('bytes' in item.value)) continue;
    bytes += item.value.bytes.length;
    if (!raw.write(item.value.bytes)) await drained(raw);
  }
  if (file.bytes !== null && bytes < file.bytes)
    throw new BoxRunError('RUNTIME_ERROR', `the file ended after ${bytes} of ${file.bytes} bytes`);
  raw.end();
}
