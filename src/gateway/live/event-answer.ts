// An answer that is a stream of server-sent events: opened, filled by its route, and ended whatever happens. Errors end
// it in one of two ways, which each route chooses.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { toBoxRunError } from '../../shared/errors.ts';
import { asBoxRunError, errorBody } from '../http/error-handler.ts';
import { encodeNotice, eventStreamType, openSseStream, type SseStream, type StreamParts } from './sse.ts';

export interface EventAnswer {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** For the log: "an event stream", "a create". */
  readonly name: string;
  /**
   * `come-again`: an error ends the stream early, and its client comes again and goes on.
   * `last-event`: the stream is the answer to one request, so an error is its last event.
   */
  readonly onError: 'come-again' | 'last-event';
}

/** Answers HEAD with the type alone. @throws TOO_MANY_REQUESTS when the client has too many streams */
export async function answerWithEvents(
  parts: StreamParts,
  { request, reply, name, onError }: EventAnswer,
  send: (stream: SseStream) => Promise<void>,
): Promise<FastifyReply> {
  if (request.method === 'HEAD') return reply.type(eventStreamType).send();
  const stream = openSseStream(reply, parts);
  try {
    await send(stream);
  } catch (error) {
    if (onError === 'last-event') {
      const known = asBoxRunError(error, request.id);
      if (known.status >= 500 && !stream.ended.aborted)
        request.log.error({ err: known.cause ?? known, requestId: request.id }, `${name} failed`);
      await stream.write(encodeNotice('error', errorBody(known)));
      return reply;
    }
    const known = toBoxRunError(error);
    if (known.code !== 'CANCELED') request.log.warn({ err: known, requestId: request.id }, `${name} broke off`);
  } finally {
    stream.end();
  }
  return reply;
}

/** Sends each batch as its pieces, as fast as the client takes them, until the stream has ended. */
export async function sendBatches<Batch>(
  stream: SseStream,
  batches: AsyncIterable<Batch>,
  encode: (batch: Batch) => Iterable<Buffer>,
  onSent: () => void = () => undefined,
): Promise<void> {
  for await (const batch of batches) {
    for (const piece of encode(batch)) await stream.write(piece);
    onSent();
    if (stream.ended.aborted) return;
  }
}
