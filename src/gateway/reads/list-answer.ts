// Sends answers that are lists. A short list is one text in the answer cache. A long list is written page by page, at
// the speed of its client, so that this process holds at most one page of it. In both cases the client gets one JSON
// array.
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

/** Reads the rows of one list. */
export interface ListSource {
  page(page: PageRequest): Promise<ListPage>;
  /** The position of the last row among `limit` rows; null if no rows follow it. */
  end(page: PageRequest): Promise<Position | null>;
}

export interface ListSender {
  /** Answers with the list. Calls `findSource` only if the answer cache has no answer. */
  send(
    findSource: () => Promise<ListSource>,
    query: ListQuery,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<FastifyReply>;
}

const [openBracket, comma, closeBracket] = ['[', ',', ']'].map((text) => Buffer.from(text)) as [Buffer, Buffer, Buffer];

export interface ListSenderDeps {
  readonly answers: AnswerCache;
  /** The budget for answers that clients have not read yet. */
  readonly unread: Budget;
  /** Aborts when the gateway stops. */
  readonly closing: AbortSignal;
}

export function createListSender({ answers, unread, closing }: ListSenderDeps): ListSender {
  let openLists = 0;
  /**
   * The longest page, in characters. Each long list holds one page until its client has read it. So pages get shorter
   * when more lists are open.
   */
  const charsMax = () =>
    Math.max(limits.replayPageBytesLeast, Math.min(limits.replayPageBytes, limits.replayBytesMax / (openLists + 1)));

  /**
   * Reads the page after `page` and reserves bytes for it. A page with long rows can be longer than the reservation.
   * Then the function releases, reserves the real length, and reads the page again.
   */
  async function readNext(list: LongList, page: ListPage, signal: AbortSignal): Promise<HeldPage> {
    for (let room = charsMax(); ;) {
      const release = await unread.wait(list.client, room, signal);
      try {
        const { source, until } = list;
        const found = await source.page({ limit: limits.pageRowsMax, after: page.next, until, charsMax: charsMax() });
        if (found.json.length <= room || signal.aborted) return { page: found, release };
        room = found.json.length;
      } catch (error) {
        release();
        throw error;
      }
      release();
    }
  }

  /** Gives true when the whole list was written, and false when `signal` aborted first. */
  async function write(list: LongList, raw: ServerResponse, signal: AbortSignal): Promise<boolean> {
    for (let { page, release } = list.first, before = openBracket; ; before = comma) {
      raw.write(before);
      if (!signal.aborted && !raw.write(page.json)) await drained(raw, signal);
      release();
      if (signal.aborted) return false;
      if (page.next === null) {
        raw.end(closeBracket);
        return true;
      }
      ({ page, release } = await readNext(list, page, signal));
    }
  }

  /** Closes the connection if the list is not complete, so that the client does not mistake it for the whole list. */
  async function stream(list: LongList, request: FastifyRequest, raw: ServerResponse): Promise<void> {
    const stopWriting = new AbortController();
    const end = () => {
      stopWriting.abort();
    };
    raw.once('close', end);
    closing.addEventListener('abort', end, { once: true });
    if (raw.destroyed || closing.aborted) end();
    openLists++;
    try {
      if (!(await write(list, raw, stopWriting.signal))) raw.destroy();
    } catch (error) {
      request.log.warn({ err: toBoxRunError(error), requestId: request.id }, 'a list broke off');
      raw.destroy();
    } finally {
      openLists--;
      raw.off('close', end);
      closing.removeEventListener('abort', end);
    }
  }

  return {
    async send(findSource, { limit, after }, request, reply) {
      let longList: { readonly source: ListSource; readonly first: ListPage } | null = null;
      const rowsMax = limit ?? limits.pageRowsMax;
      const short = await answers.get(request.url, async (): Promise<Answer | null> => {
        const source = await findSource();
        const first = await source.page({ limit: rowsMax, after, charsMax: charsMax() });
        const isWhole = first.next === null || first.count === limit;
        if (!isWhole) longList = { source, first };
        return isWhole ? { json: Buffer.concat([openBracket, first.json, closeBracket]), next: first.next } : null;
      });
      if (short !== null) return sendAnswer(short, request, reply);
      const { source, first } = longList as unknown as { source: ListSource; first: ListPage };
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
  /** Releases the bytes of the page in the budget. */
  readonly release: () => void;
}

interface LongList {
  readonly source: ListSource;
  readonly client: string;
  readonly first: HeldPage;
  /** The last row of the answer; null for the end of the list. */
  readonly until: Position | null;
}
