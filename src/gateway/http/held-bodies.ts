// Counts request bodies and unread answers against the budgets of the gateway. A JSON body counts from its head to the
// end of the answer. An answer counts until the client has read it. Bodies and answers under limits.heldBytesCounted do
// not count, because client-bounds.ts limits the number of requests.
import type { FastifyInstance } from 'fastify';
import type { IncomingMessage } from 'node:http';
import { limits } from '../../shared/limits.ts';
import { clientOf, type Budget } from './budget.ts';

export interface HeldBodiesOptions {
  readonly bodies: Budget;
  readonly unread: Budget;
  /** The longest body that the server accepts, in bytes. */
  readonly bodyBytesMax: number;
}

/** Adds the hooks that count. A request that finds no room gets TOO_MANY_REQUESTS. */
export function boundBodies(app: FastifyInstance, { bodies, unread, bodyBytesMax }: HeldBodiesOptions): void {
  app.addHook('preParsing', (request, reply, payload, done) => {
    const bytes = request.headers['content-type']?.startsWith('multipart/')
      ? 0
      : announcedBytes(request.raw, bodyBytesMax);
    if (bytes < limits.heldBytesCounted) {
      done(null, payload);
      return;
    }
    try {
      reply.raw.once('close', bodies.take(clientOf(request.socket), Math.min(bytes, bodyBytesMax)));
    } catch (error) {
      done(error as Error);
      return;
    }
    const timer = setTimeout(() => request.raw.destroy(), limits.bodyTimeoutMs);
    for (const end of ['end', 'close'] as const) {
      payload.once(end, () => {
        clearTimeout(timer);
      });
    }
    done(null, payload);
  });
  app.addHook('onSend', (request, reply, payload, done) => {
    const bytes = typeof payload === 'string' || Buffer.isBuffer(payload) ? payload.length : 0;
    if (bytes < limits.heldBytesCounted) {
      done(null, payload);
      return;
    }
    // Only a GET can still be refused. Any other request has done its work already.
    const take = request.method === 'GET' ? unread.take : unread.note;
    try {
      reply.raw.once('close', take(clientOf(request.socket), bytes));
      done(null, payload);
    } catch (error) {
      done(error as Error);
    }
  });
}

/** The length of the body from its headers, in bytes. A chunked body names no length, so it counts as the longest. */
function announcedBytes({ headers }: IncomingMessage, bodyBytesMax: number): number {
  return headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : bodyBytesMax;
}
