// The operations on single files and directories of a box, below /fs. The worker runs each of them in the box, as the
// given user, so the box itself resolves paths and decides what is allowed. Bytes flow at the speed of the slower side.
import { Type, type Static } from 'typebox';
import { FileEntry, FileList } from '../../shared/api.ts';
import type { FileOperation } from '../../shared/contracts/files.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { sendChanges, sendDirectory, sendFileBytes, sendList, type FileRequest } from '../live/file-answers.ts';
import { nextReport, openWorkerStream, reasonOfBreak } from '../live/worker-stream.ts';
import { discardRest } from '../http/discard-rest.ts';
import { takePlace } from '../live/transfer.ts';
import { announcedLength, sendToBox } from '../live/carried-bytes.ts';
import { boxErrors, eventStream, json, Ok, text, type Operations } from '../openapi/operation.ts';
import type { GatewayParts } from '../parts.ts';
import type { Call, HandlersOf } from './handler.ts';

/** Characters of a path in a request. */
const pathCharsMax = 4_096;
/** Entries in one answer that lists a directory. */
const entriesMax = 1_000_000;
const path = Type.String({ minLength: 1, maxLength: pathCharsMax });
const user = Type.Optional(Type.String({ minLength: 1, maxLength: 256 }));
const flag = Type.Optional(Type.Enum(['true', 'false', '1', '0', '']));
const octal = Type.String({ pattern: '^[0-7]{1,5}$', description: 'The permission bits in octal, such as 0644' });
const id = Type.Integer({ minimum: 0, maximum: 0xffff_fffe });
const errors = [...boxErrors, 'BOX_NOT_RUNNING', 'FILE_NOT_FOUND', 'RUNTIME_ERROR'] as const;
const bytes = { 'application/octet-stream': text } as const;
const done = { 200: json('It is done', Ok) };
const archive = Type.Unsafe<never>({ type: 'string', contentMediaType: 'application/octet-stream' });

export const fsOperations = {
  statFile: {
    method: 'get',
    path: '/v1/boxes/{box}/fs/stat',
    summary: 'What a file of a box is',
    query: Type.Object({ path, follow: flag, user }),
    example: { query: { path: '/etc/hosts' } },
    answers: { 200: json('The file; a link itself only with `follow=false`', FileEntry) },
    errors,
  },
  listFiles: {
    method: 'get',
    path: '/v1/boxes/{box}/fs/list',
    summary: 'The files in a directory of a box, in no particular order',
    query: Type.Object({
      path,
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: entriesMax })),
      user,
    }),
    example: { query: { path: '/etc' } },
    answers: { 200: json('The files; links are not followed', FileList) },
    errors,
  },
  readFile: {
    method: 'get',
    path: '/v1/boxes/{box}/fs/read',
    summary: 'The bytes of a file of a box, or one range of them',
    query: Type.Object({ path, user }),
    headers: ['Range'],
    example: { query: { path: '/etc/hosts' } },
    answers: {
      200: { description: 'The bytes of the file', content: bytes, headers: ['X-BoxRun-Mode', 'Last-Modified'] },
      206: {
        description: 'The bytes of the range',
        content: bytes,
        headers: ['Content-Range', 'X-BoxRun-Mode', 'Last-Modified'],
      },
    },
    errors,
    head: 'none',
  },
  writeFile: {
    method: 'post',
    path: '/v1/boxes/{box}/fs/write',
    summary: 'Write a file of a box: its readers see the old content or the whole new one',
    query: Type.Object({ path, mode: Type.Optional(octal), mtime: Type.Optional(Type.Number()), parents: flag, user }),
    body: { schema: archive, required: true, contentType: 'application/octet-stream' },
    example: { query: { path: '/root/notes.txt' }, body: { file: '@notes.txt' } },
    answers: { 200: json('The file is written', Ok) },
    errors,
  },
  makeDirectory: {
    method: 'post',
    path: '/v1/boxes/{box}/fs/mkdir',
    summary: 'Make a directory in a box',
    body: {
      schema: Type.Object({ path, mode: Type.Optional(octal), parents: Type.Optional(Type.Boolean()), user }),
      required: true,
    },
    example: { body: { path: '/root/a/b', parents: true } },
    answers: done,
    errors,
  },
  renameFile: {
    method: 'post',
    path: '/v1/boxes/{box}/fs/rename',
    summary: 'Rename a file or a directory of a box',
    body: { schema: Type.Object({ path, to: path, replace: Type.Optional(Type.Boolean()), user }), required: true },
    example: { body: { path: '/root/notes.txt', to: '/root/old.txt' } },
    answers: done,
    errors,
  },
  removeFile: {
    method: 'post',
    path: '/v1/boxes/{box}/fs/remove',
    summary: 'Remove a file or a directory of a box',
    body: { schema: Type.Object({ path, recursive: Type.Optional(Type.Boolean()), user }), required: true },
    example: { body: { path: '/root/old.txt' } },
    answers: done,
    errors,
  },
  changeFileMode: {
    method: 'post',
    path: '/v1/boxes/{box}/fs/chmod',
    summary: 'Change the permission bits of a file of a box',
    body: { schema: Type.Object({ path, mode: octal, user }), required: true },
    example: { body: { path: '/root/run.sh', mode: '0755' } },
    answers: done,
    errors,
  },
  changeFileOwner: {
    method: 'post',
    path: '/v1/boxes/{box}/fs/chown',
    summary: 'Change the owner of a file of a box',
    body: {
      schema: Type.Object({
        path,
        uid: Type.Optional(id),
        gid: Type.Optional(id),
        follow: Type.Optional(Type.Boolean()),
        user,
      }),
      required: true,
    },
    example: { body: { path: '/srv/data', uid: 1000, gid: 1000 } },
    answers: done,
    errors,
  },
  downloadDirectory: {
    method: 'get',
    path: '/v1/boxes/{box}/fs/archive',
    summary: 'A directory of a box as a tar archive, packed while it is read',
    query: Type.Object({ path, user }),
    example: { query: { path: '/etc' } },
    answers: {
      200: {
        description: 'The archive. The headers here follow after the body (trailers)',
        content: bytes,
        headers: ['X-BoxRun-Left-Out', 'X-BoxRun-Changed'],
      },
    },
    errors,
    head: 'none',
  },
  uploadDirectory: {
    method: 'post',
    path: '/v1/boxes/{box}/fs/archive',
    summary: 'Unpack a tar archive into a directory of a box, which is made if it is missing',
    query: Type.Object({ path, owners: flag, user }),
    body: { schema: archive, required: true, contentType: 'application/octet-stream' },
    example: { query: { path: '/srv/site' }, body: { file: '@site.tar' } },
    answers: { 200: json('Everything is in its place', Type.Object({ ok: Type.Literal(true), left_out: texts() })) },
    errors,
  },
  watchFiles: {
    method: 'get',
    path: '/v1/boxes/{box}/fs/watch',
    summary: 'Changes in a directory of a box as they happen, as server-sent events',
    query: Type.Object({ path, recursive: flag, user }),
    example: { query: { path: '/srv' } },
    answers: {
      200: eventStream(
        'First ready. Then created, modified, written (closed after writing), attributes, moved_from, moved_to and ' +
          'removed with a FileChange; overflow: changes were lost, list again',
      ),
    },
    errors,
    head: 'by-handler',
  },
} as const satisfies Operations;

function texts() {
  return Type.Array(Type.String());
}

type FsCall = Pick<Call<(typeof fsOperations)['statFile']>, 'request' | 'reply' | 'path'>;

export function createFsHandlers(parts: GatewayParts): HandlersOf<typeof fsOperations> {
  const requestOf = (
    { request, reply, path: { box } }: FsCall,
    operation: FileOperation,
    as?: string,
  ): FileRequest => ({
    parts,
    request,
    reply,
    box,
    operation: {
      kind: 'file',
      operation,
      user: as ?? null,
      direct: operation.do === 'read' || operation.do === 'pack',
    },
  });

  /** Runs an operation that only succeeds or fails. */
  async function run(call: FsCall, operation: FileOperation, as: string | undefined): Promise<Static<typeof Ok>> {
    await whileProcessing(call.reply, report(requestOf(call, operation, as), 'done'));
    return { ok: true };
  }

  async function take(call: FsCall, operation: FileOperation, as: string | undefined): Promise<readonly string[]> {
    takePlace(parts, call.reply);
    return (await whileProcessing(call.reply, sendBody(requestOf(call, operation, as)))).leftOut ?? [];
  }

  return {
    statFile: async ({ query, ...call }) => {
      const { path: at, follow, user: as } = query();
      const operation = { do: 'stat', path: at, follow: follow === undefined || isSet(follow) } as const;
      return (await whileProcessing(call.reply, report(requestOf(call, operation, as), 'file'))).file;
    },
    listFiles: async ({ query, ...call }) => {
      const { path: at, limit = entriesMax, user: as } = query();
      return sendList(requestOf(call, { do: 'list', path: at, limit }, as));
    },
    readFile: async ({ query, ...call }) => {
      const { path: at, user: as } = query();
      takePlace(parts, call.reply);
      return sendFileBytes(at, (offset, count) => requestOf(call, { do: 'read', path: at, offset, bytes: count }, as));
    },
    writeFile: async ({ query, ...call }) => {
      const { path: at, mode, mtime, parents, user: as } = query();
      await take(
        call,
        {
          do: 'write',
          path: at,
          parents: isSet(parents),
          ...modeOf(mode),
          ...(mtime === undefined ? {} : { mtimeS: mtime }),
        },
        as,
      );
      return { ok: true };
    },
    makeDirectory: async ({ body, ...call }) => {
      const { path: at, mode, parents = false, user: as } = body();
      return run(call, { do: 'mkdir', path: at, parents, ...modeOf(mode) }, as);
    },
    renameFile: async ({ body, ...call }) => {
      const { path: at, to, replace = false, user: as } = body();
      return run(call, { do: 'rename', path: at, to, replace }, as);
    },
    removeFile: async ({ body, ...call }) => {
      const { path: at, recursive = false, user: as } = body();
      return run(call, { do: 'remove', path: at, recursive }, as);
    },
    changeFileMode: async ({ body, ...call }) => {
      const { path: at, mode, user: as } = body();
      return run(call, { do: 'chmod', path: at, mode: modeOf(mode).mode ?? 0 }, as);
    },
    changeFileOwner: async ({ body, ...call }) => {
      const { path: at, uid = -1, gid = -1, follow = true, user: as } = body();
      return run(call, { do: 'chown', path: at, uid, gid, follow }, as);
    },
    downloadDirectory: async ({ query, ...call }) => {
      const { path: at, user: as } = query();
      takePlace(parts, call.reply);
      return sendDirectory(requestOf(call, { do: 'pack', path: at }, as), at);
    },
    uploadDirectory: async ({ query, ...call }) => {
      const { path: at, owners, user: as } = query();
      const leftOut = await take(call, { do: 'unpack', path: at, owners: isSet(owners) }, as);
      return { ok: true, left_out: [...leftOut] };
    },
    watchFiles: async ({ query, ...call }) => {
      const { path: at, recursive, user: as } = query();
      return sendChanges(requestOf(call, { do: 'watch', path: at, recursive: isSet(recursive) }, as));
    },
  };
}

function isSet(value: string | undefined): boolean {
  return value === 'true' || value === '1';
}

/** @throws VALIDATION_ERROR for a number above 7777 */
function modeOf(mode: string | undefined): { mode?: number } {
  if (mode === undefined) return {};
  const bits = Number.parseInt(mode, 8);
  if (bits > 0o7777) throw new BoxRunError('VALIDATION_ERROR', `'mode': ${mode} is more than 7777`);
  return { mode: bits };
}

/** Opens the stream of an operation that answers with one report, and reads it. */
async function report<T extends 'done' | 'file'>(asked: FileRequest, type: T) {
  const { parts, request, box, operation } = asked;
  const stream = await openWorkerStream(parts, box, operation, { requestId: request.id });
  try {
    return await nextReport(stream, type);
  } catch (error) {
    throw await reasonOfBreak(parts, box, operation, error);
  } finally {
    stream.close();
  }
}

/** Sends the body of the request to the operation, and reads its last report. */
async function sendBody({ parts, request, box, operation }: FileRequest) {
  try {
    const about = { requestId: request.id, bytes: announcedLength(request.headers) };
    return await sendToBox(parts, box, operation, request.raw, about);
  } catch (error) {
    await discardRest(request.raw);
    throw await reasonOfBreak(parts, box, operation, error);
  }
}
