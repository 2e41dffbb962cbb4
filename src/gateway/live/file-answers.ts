// Answers of operations on files that have a body: the bytes of a file, a list, an archive, and the changes of a watch.
// Until the first bytes have come from the box, an error is an answer of its own. If bytes break off later, the
// connection is closed, so that the client does not take the part for the whole.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { posix } from 'node:path';
import type { StreamOperation, StreamReport } from '../../shared/contracts/worker.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { drained } from '../../shared/waiting/drained.ts';
import { whileProcessing } from '../http/long-answer.ts';
import type { GatewayParts } from '../parts.ts';
import { answerWithEvents } from './event-answer.ts';
import { encodeNotice } from './sse.ts';
import { itemsFromBox } from './carried-bytes.ts';
import { attachment } from './transfer.ts';
import { nextItem, nextReport, openWorkerStream, reasonOfBreak, type WorkerItem } from './worker-stream.ts';

export interface FileRequest {
  readonly parts: GatewayParts;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly box: string;
  readonly operation: StreamOperation;
}

type Done = Extract<StreamReport, { type: 'done' }>;
type Items = AsyncGenerator<WorkerItem, void, void>;

/** Waits for the first item: until then, an error is an answer of its own. */
async function begin(stream: ByteStream) {
  const items = itemsFromBox(stream);
  return { items, first: await items.next() };
}

/** Opens the stream, lets `begin` read its first items, and lets `send` answer with them. */
async function answer<T>(
  { parts, request, reply, box, operation }: FileRequest,
  begin: (stream: ByteStream) => Promise<T>,
  send: (begun: T) => Promise<void>,
): Promise<FastifyReply> {
  const opened = await openWorkerStream(parts, box, operation, { requestId: request.id });
  const onGone = () => {
    opened.close();
  };
  reply.raw.once('close', onGone);
  try {
    const begun = await whileProcessing(reply, begin(opened));
    reply.hijack();
    await send(begun);
  } catch (error) {
    if (!reply.raw.headersSent) throw await reasonOfBreak(parts, box, operation, error);
    const known = toBoxRunError(error);
    if (!reply.raw.destroyed) request.log.warn({ err: known, requestId: request.id }, 'an answer with files broke off');
    reply.raw.destroy();
  } finally {
    reply.raw.off('close', onGone);
    opened.close();
  }
  return reply;
}

interface Range {
  /** In bytes; negative from the end of the file. */
  readonly offset: number;
  /** Null: up to the end. */
  readonly bytes: number | null;
}

/** Null for a header that asks for several ranges or for another unit: the whole file is a correct answer then. */
function rangeOf(header: string | undefined): Range | null {
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? '') ?? [];
  if (first === '') return last === '' ? null : { offset: -Number(last), bytes: null };
  if (last === '') return { offset: Number(first), bytes: null };
  return Number(last) < Number(first) ? null : { offset: Number(first), bytes: Number(last) - Number(first) + 1 };
}

/**
 * Answers with the bytes of a file, or with the range that the request names.
 * @param ask makes the request of the worker for these bytes
 */
export async function sendFileBytes(
  path: string,
  ask: (offset: number, bytes: number | null) => FileRequest,
): Promise<FastifyReply> {
  const whole = ask(0, null);
  const range = rangeOf(whole.request.headers.range);
  const asked = range === null ? whole : ask(range.offset === 0 ? 0 : range.offset, range.bytes);
  return answer(
    asked,
    async (stream) => {
      const { file, offset, hasSize } = await nextReport(stream, 'file');
      if (range !== null && hasSize && (offset >= file.size || Object.is(range.offset, -0)))
        throw new BoxRunError('VALIDATION_ERROR', `the file has only ${file.size} bytes`, { status: 416 });
      const items = itemsFromBox(stream);
      return { file, offset, hasSize, items, first: await items.next() };
    },
    async ({ file, offset, hasSize, items, first }) => {
      const { raw } = whole.reply;
      const end = hasSize ? Math.min(file.size, offset + (range?.bytes ?? file.size)) : null;
      // A file of the kernel has no length. Then a range cannot be described, and a range from 0 on is the whole.
      const isPart = range !== null && end !== null;
      raw.writeHead(isPart ? 206 : 200, {
        ...attachment(posix.basename(path)),
        ...(end === null ? {} : { 'content-length': end - offset, 'accept-ranges': 'bytes' }),
        ...(isPart ? { 'content-range': `bytes ${offset}-${end - 1}/${file.size}` } : {}),
        'x-boxrun-mode': file.mode,
        'last-modified': new Date(file.modified_at).toUTCString(),
      });
      await sendItems(items, first, raw, end === null ? null : end - offset);
      raw.end();
    },
  );
}

/**
 * Writes the bytes to the client, until the report `done`, which it gives.
 * @param bytes the announced length; what a file has more is dropped
 * @throws RUNTIME_ERROR if there are fewer
 */
async function sendItems(
  items: Items,
  first: IteratorResult<WorkerItem, void>,
  raw: FastifyReply['raw'],
  bytes: number | null,
): Promise<Done | null> {
  let left = bytes ?? Infinity;
  for (let { done, value } = first; done !== true && value !== undefined; { done, value } = await items.next()) {
    if (!('bytes' in value)) {
      if (value.report.type !== 'done') continue;
      if (bytes !== null && left > 0) break;
      return value.report;
    }
    const piece = value.bytes.subarray(0, Math.min(left, value.bytes.length));
    left -= piece.length;
    if (piece.length > 0 && !raw.write(piece)) await drained(raw);
    if (left === 0) return null;
  }
  if (bytes === 0) return null;
  throw new BoxRunError('RUNTIME_ERROR', 'the box sent fewer bytes than it had announced');
}

/** Answers with a list, as the entries come. */
export async function sendList(asked: FileRequest): Promise<FastifyReply> {
  return answer(asked, begin, async ({ items, first }) => {
    const { raw } = asked.reply;
    raw.writeHead(200, { 'content-type': 'application/json; charset=utf-8' });
    raw.write('{"entries":[');
    const done = await sendItems(items, first, raw, null);
    raw.end(`],"is_cut":${String(done?.isCut ?? false)}}`);
  });
}

/** Answers with an archive of the directory. What could not be packed follows after the body. */
export async function sendDirectory(asked: FileRequest, path: string): Promise<FastifyReply> {
  return answer(asked, begin, async ({ items, first }) => {
    const { raw } = asked.reply;
    raw.writeHead(200, {
      ...attachment(`${posix.basename(path) || 'root'}.tar`),
      trailer: 'X-BoxRun-Left-Out, X-BoxRun-Changed',
    });
    const done = await sendItems(items, first, raw, null);
    raw.addTrailers({
      ...(done?.leftOut === undefined ? {} : { 'X-BoxRun-Left-Out': headerText(done.leftOut) }),
      ...(done?.changed === undefined ? {} : { 'X-BoxRun-Changed': headerText(done.changed) }),
    });
    raw.end();
  });
}

/** The texts as JSON of ASCII characters alone, because a header can hold no others. */
function headerText(texts: readonly string[]): string {
  return JSON.stringify(texts).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Answers with the changes of a watch, as server-sent events. */
export async function sendChanges({ parts, request, reply, box, operation }: FileRequest): Promise<FastifyReply> {
  const answered = { request, reply, name: 'a watch of files', onError: 'last-event' } as const;
  if (request.method === 'HEAD') return answerWithEvents(parts, answered, () => Promise.resolve());
  const stream = await openWorkerStream(parts, box, operation, { requestId: request.id });
  try {
    const first = await whileProcessing(reply, nextItem(stream)).catch(async (error: unknown) => {
      throw await reasonOfBreak(parts, box, operation, error);
    });
    return await answerWithEvents(parts, answered, async (events) => {
      events.ended.addEventListener('abort', () => {
        stream.close();
      });
      let text = '';
      for (let item = first; item !== null && !events.ended.aborted; item = await nextChange(stream, asked(events))) {
        if (!('bytes' in item)) return;
        const lines = (text + Buffer.from(item.bytes).toString()).split('\n');
        text = lines.pop() ?? '';
        for (const line of lines) {
          const { type, ...change } = JSON.parse(line) as { type: string };
          await events.write(encodeNotice(type, change));
        }
      }
    });
  } finally {
    stream.close();
  }

  function asked(events: { readonly ended: AbortSignal }) {
    return { parts, box, operation, ended: events.ended };
  }
}

/** The next item. If the worker has gone, the error says what happened to the box. */
async function nextChange(
  stream: ByteStream,
  { parts, box, operation, ended }: Pick<FileRequest, 'parts' | 'box' | 'operation'> & { readonly ended: AbortSignal },
): Promise<WorkerItem | null> {
  try {
    return await nextItem(stream);
  } catch (error) {
    if (ended.aborted) return null;
    throw await reasonOfBreak(parts, box, operation, error);
  }
}
