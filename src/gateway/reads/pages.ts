// Lists in pages: a cursor is the position of a page's last row, opaque to clients. Bodies stay plain arrays, as old
// clients know them; where the next page begins stands in headers. Used by the routes that list.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { BoxRunError } from '../../shared/errors.ts';
import type { Position } from '../../shared/store/lists.ts';
import type { Answer } from './answer-cache.ts';

export const jsonType = 'application/json; charset=utf-8';

/** What a client wants of a list. */
export interface ListQuery {
  /** Rows at most; null for all. */
  readonly limit: number | null;
  readonly after: Position | null;
}

/** @throws VALIDATION_ERROR for a cursor that is none of ours */
export function pageOf({ limit, cursor }: { readonly limit?: number; readonly cursor?: string }): ListQuery {
  return { limit: limit ?? null, after: cursor === undefined ? null : decodeCursor(cursor) };
}

/** Sends what is JSON already. */
export function sendAnswer({ json, next }: Answer, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  void reply.type(jsonType);
  if (next !== null) linkNext(next, request, reply);
  return reply.send(json);
}

/** `Link` and `X-Next-Cursor` say where the next page begins. */
export function linkNext(next: Position, request: FastifyRequest, reply: FastifyReply): void {
  const cursor = encodeCursor(next);
  const [path = '', query = ''] = request.url.split('?', 2);
  const parameters = new URLSearchParams(query);
  parameters.set('cursor', cursor);
  void reply.header('link', `<${path}?${parameters.toString()}>; rel="next"`).header('x-next-cursor', cursor);
}

function encodeCursor({ createdAt, rowid }: Position): string {
  return Buffer.from(`${createdAt} ${rowid}`).toString('base64url');
}

function decodeCursor(cursor: string): Position {
  const [, createdAt, rowid] =
    /^(\d{4}-\d\d-\d\dT[\d:.]{8,18}Z) (\d{1,15})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? [];
  if (createdAt !== undefined && rowid !== undefined) return { createdAt, rowid: Number(rowid) };
  throw new BoxRunError('VALIDATION_ERROR', "'cursor' must be the value of X-Next-Cursor from an earlier answer", {
    hint: 'leave it out to begin with the first page',
  });
}
