// Answers that are lists. A short one is one text, kept in the answer cache. A long one is written page by page, as its
// client takes it, so that no process ever holds more of it than one page. Either way it is one JSON array.
import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { drained } from '../../shared/waiting/drained.ts';
import { toBoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { PageRequest, Position } from '../../shared/store/lists.ts';
import type { Answer, AnswerCache } from './answer-cache.ts';
import { clientOf, type Budget } from '../http/budget.ts';
import { jsonType, linkNext, sendAnswer, type ListQuery } from './pages.ts';
import type { ListPage } from './reader-thread.ts';

/** Where the rows come from. */
export interface ListSource {
  page(page: PageRequest): Promise<ListPage>;
  /** Where a page of `limit` rows ends, if there is more behind it. */
  end(page: PageRequest): Promise<Position | null>;
}

export interface ListSender {
  send(
    source: () => Promise<ListSource>,
    query: ListQuery,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<FastifyReply>;
}

const [opening, comma, closing] = ['[', ',', ']'].map((text) => Buffer.from(text)) as [Buffer, Buffer, Buffer];

export interface ListSenderDeps {
  readonly answers: AnswerCache;
  /** Answers that clients have not taken yet. */
  readonly unread: Budget;
  /** Aborts when the gateway goes. */
  readonly closing: AbortSignal;
}

export function createListSender({ answers, unread, closing: going }: ListSenderDeps): ListSender {
  let open = 0;
  /** Every long list holds a page, for as long as its client takes: all pages together are bounded. */
  const charsMax = () =>
    Math.max(limits.replayPageBytesLeast, Math.min(limits.replayPageBytes, limits.replayBytesMax / (open + 1)));

  /** The page behind `page`, and room for it: of long rows it may turn out longer than what there is room for. */
  async function next(list: LongList, page: ListPage, over: AbortSignal): Promise<HeldPage> {
    for (let room = charsMax(); ;) {
      const release = await unread.wait(list.client, room, over);
      try {
        const { source, until } = list;
        const found = await source.page({ limit: limits.pageRowsMax, after: page.next, until, charsMax: charsMax() });
        if (found.json.length <= room || over.aborted) return { page: found, release };
        room = found.json.length;
      } catch (error) {
        release();
        throw error;
      }
      release();
    }
  }

  /** Gives true when the client has all of it. */
  async function write(list: LongList, raw: ServerResponse, over: AbortSignal): Promise<boolean> {
    for (let { page, release } = list.first, before = opening; ; before = comma) {
      raw.write(before);
      if (!over.aborted && !raw.write(page.json)) await drained(raw, over);
      release();
      if (over.aborted) return false;
      if (page.next === null) {
        raw.end(closing);
        return true;
      }
      ({ page, release } = await next(list, page, over));
    }
  }

  /** A list that breaks off cuts the connection: its client must not take it for the whole. */
  async function stream(list: LongList, request: FastifyRequest, raw: ServerResponse): Promise<void> {
    const over = new AbortController();
    const end = () => {
      over.abort();
    };
    raw.once('close', end);
    going.addEventListener('abort', end, { once: true });
    if (raw.destroyed || going.aborted) end();
    open++;
    try {
      if (!(await write(list, raw, over.signal))) raw.destroy();
    } catch (error) {
      request.log.warn({ err: toBoxRunError(error), requestId: request.id }, 'a list broke off');
      raw.destroy();
    } finally {
      open--;
      raw.off('close', end);
      going.removeEventListener('abort', end);
    }
  }

  return {
    async send(find, { limit, after }, request, reply) {
      let begun: { readonly source: ListSource; readonly first: ListPage } | null = null;
      const rowsMax = limit ?? limits.pageRowsMax;
      const short = await answers.get(request.url, async (): Promise<Answer | null> => {
        const source = await find();
        const first = await source.page({ limit: rowsMax, after, charsMax: charsMax() });
        const isWhole = first.next === null || first.count === limit;
        if (!isWhole) begun = { source, first };
        return isWhole ? { json: Buffer.concat([opening, first.json, closing]), next: first.next } : null;
      });
      if (short !== null) return sendAnswer(short, request, reply);
      const { source, first } = begun as unknown as { source: ListSource; first: ListPage };
      const until = limit === null ? null : await source.end({ limit, after });
      if (until !== null) linkNext(until, request, reply);
      const headers = { ...(reply.getHeaders() as Record<string, string>), 'content-type': jsonType };
      const client = clientOf(request.socket);
      const list = { source, client, until, first: { page: first, release: unread.take(client, first.json.length) } };
      reply.hijack();
      reply.raw.writeHead(200, headers);
      if (request.method !== 'HEAD') await stream(list, request, reply.raw);
      else {
        list.first.release();
        reply.raw.end();
      }
      return reply;
    },
  };
}

interface HeldPage {
  readonly page: ListPage;
  readonly release: () => void;
}

interface LongList {
  readonly source: ListSource;
  readonly client: string;
  readonly first: HeldPage;
  /** Its last row; null for all that there is. */
  readonly until: Position | null;
}
