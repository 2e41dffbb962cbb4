// Lists in pages. A cursor is the position of the last row of a page, and clients do not look into it. The body stays a
// plain array, as old clients expect it, so headers say where the next page begins.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { BoxRunError } from '../../shared/errors.ts';
import type { Position } from '../../shared/store/lists.ts';
import type { Answer } from './answer-cache.ts';

export const jsonType = 'application/json; charset=utf-8';

/** The part of a list that a client asks for. */
export interface ListQuery {
  /** The largest number of rows; null for all rows. */
  readonly limit: number | null;
  /** The list begins after this row; null for the first row. */
  readonly after: Position | null;
}

/** @throws VALIDATION_ERROR for a cursor that this server did not make */
export function pageOf({ limit, cursor }: { readonly limit?: number; readonly cursor?: string }): ListQuery {
  return { limit: limit ?? null, after: cursor === undefined ? null : decodeCursor(cursor) };
}

/** Sends an answer that is JSON text already. */
export function sendAnswer({ json, next }: Answer, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  void reply.type(jsonType);
  if (next !== null) linkNext(next, request, reply);
  return reply.send(json);
}

/** Sets the headers `Link` and `X-Next-Cursor`, which say where the next page begins. */
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
