// Counts what clients send and what they do not read against the gateway's budgets: JSON bodies from their head to the
// end of their answer, and long answers until they are taken. Small ones are not counted: how many requests a client
// may have is bounded elsewhere. Added to the application by app.ts.
import type { FastifyInstance } from 'fastify';
import type { IncomingMessage } from 'node:http';
import { limits } from '../../shared/limits.ts';
import { clientOf, type Budget } from './budget.ts';

export interface HeldBodiesOptions {
  readonly bodies: Budget;
  readonly unread: Budget;
  /** Of one body. */
  readonly bodyBytesMax: number;
}

export function boundBodies(app: FastifyInstance, { bodies, unread, bodyBytesMax }: HeldBodiesOptions): void {
  app.addHook('preParsing', (request, reply, payload, done) => {
    const bytes = request.headers['content-type']?.startsWith('multipart/') ? 0 : announced(request.raw, bodyBytesMax);
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
    // What a command has done cannot be refused any more.
    const take = request.method === 'GET' ? unread.take : unread.note;
    try {
      reply.raw.once('close', take(clientOf(request.socket), bytes));
      done(null, payload);
    } catch (error) {
      done(error as Error);
    }
  });
}

/** Bytes of a body as its head says; the most that it may have where it does not say. */
function announced({ headers }: IncomingMessage, bodyBytesMax: number): number {
  return headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : bodyBytesMax;
}
