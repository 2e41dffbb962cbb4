// Server-sent events (SSE): the text form of each event, and a stream that sends no faster than its client reads.
// A stream ends when its client closes the connection or when the gateway stops.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Event } from '../../shared/contracts/writer.ts';
import { drained } from '../../shared/waiting/drained.ts';
import { limits } from '../../shared/limits.ts';
import type { GatewayParts } from '../parts.ts';

export const eventStreamType = 'text/event-stream; charset=utf-8';

/** The form of output: text, where bytes that are not UTF-8 become U+FFFD, or base64 of the exact bytes. */
export type SseEncoding = 'text' | 'base64';

/** Whether the client wants a stream with the progress of the request, and not only one answer. */
export function acceptsStream(request: FastifyRequest): boolean {
  return request.headers.accept?.split(',').some((type) => type.trim().startsWith('text/event-stream')) ?? false;
}

// Some clients split lines at these characters, and JSON does not escape them.
const lineSeparators = /[\u0085\u2028\u2029]/g;

function jsonLine(value: unknown): string {
  return inOneLine(JSON.stringify(value));
}

function inOneLine(json: string): string {
  return json.replace(lineSeparators, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function encodeEvent({ seq, type, stream, data }: Event, encoding: SseEncoding): string {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const line =
    encoding === 'base64' && type === 'log'
      ? `{"stream":"${stream}","data_b64":"${bytes.toString('base64')}","seq":${seq}}`
      : jsonLine({ stream, data: bytes.toString('utf8'), seq });
  return `id: ${seq}\nevent: ${type}\ndata: ${line}\n\n`;
}

/**
 * Encodes a batch of events in pieces. Small events share a piece, and a large event has its own, so that a whole batch
 * is not in memory several times.
 */
export function* encodeEvents(events: readonly Event[], encoding: SseEncoding): Generator<Buffer, void, void> {
  yield* inPieces(mapped(events, (event) => encodeEvent(event, encoding)));
}

function* mapped<T>(values: Iterable<T>, encode: (value: T) => string): Generator<string, void, void> {
  for (const value of values) yield encode(value);
}

/**
 * Joins texts into pieces of at most limits.ssePieceChars characters; a longer text is one piece. A text is not kept
 * while its piece waits for the client.
 */
export function* inPieces(texts: Iterable<string>): Generator<Buffer, void, void> {
  let piece = '';
  for (let text of texts) {
    if (piece !== '' && piece.length + text.length > limits.ssePieceChars) {
      const full = Buffer.from(piece);
      piece = text;
      text = '';
      yield full;
    } else {
      piece += text;
    }
  }
  if (piece === '') return;
  const rest = Buffer.from(piece);
  piece = '';
  yield rest;
}

/** Encodes messages whose content is JSON already, in pieces. */
export function encodeMessages(
  messages: readonly { readonly id: string; readonly kind: string; readonly json: string }[],
): Generator<Buffer, void, void> {
  return inPieces(mapped(messages, ({ id, kind, json }) => `id: ${id}\nevent: ${kind}\ndata: ${inOneLine(json)}\n\n`));
}

/** An event without an id. Clients cannot resume after it. */
export function encodeNotice(event: string, value: unknown): Buffer {
  return Buffer.from(`event: ${event}\ndata: ${jsonLine(value)}\n\n`);
}

/**
 * A comment with only one line break. A blank line ends an event, and some clients (httpx-sse in the Python SDK) would
 * then give an event without data.
 */
const heartbeatLine = ': alive\n';

/** The parts of the gateway that a stream needs. */
export type StreamParts = Pick<GatewayParts, 'closing' | 'places' | 'config'>;

export interface SseStream {
  /**
   * Sends `chunk`. It must end with a whole event, because a comment can follow it. Resolves when the client can take
   * more, or when the stream has ended.
   */
  write(chunk: Buffer): Promise<void>;
  /** As `write`, for one long event. No comment comes between its pieces. */
  writePieces(pieces: Iterable<Buffer>): Promise<void>;
  /** As `write`, but does not wait, and discards `chunk` while the client reads too slowly. For optional events. */
  offer(chunk: Buffer): void;
  end(): void;
  /** Aborts when the client has closed the connection, when `end` was called, or when the gateway stops. */
  readonly ended: AbortSignal;
}

/**
 * Takes the connection from fastify and starts the stream. While the stream is idle, comments keep the connection
 * alive. The stream ends when `closing` aborts.
 * @throws TOO_MANY_REQUESTS when the client has too many streams open
 */
export function openSseStream(reply: FastifyReply, { closing, places, config }: StreamParts): SseStream {
  const { raw } = reply;
  const { remoteAddress } = reply.request.socket;
  places.take({ remoteAddress, destroyed: raw.destroyed, once: (event, listener) => raw.once(event, listener) });
  reply.hijack();
  const ended = new AbortController();
  raw.writeHead(200, {
    'content-type': eventStreamType,
    'cache-control': 'no-cache, no-transform',
    // Tells reverse proxies not to buffer the live events.
    'x-accel-buffering': 'no',
  });
  raw.flushHeaders();
  raw.socket?.setNoDelay(true);
  let isWithinEvent = false;
  const heartbeat = setInterval(() => {
    if (!raw.writableNeedDrain && !isWithinEvent) raw.write(heartbeatLine);
  }, config.sseHeartbeatMs);
  const end = () => {
    clearInterval(heartbeat);
    closing.removeEventListener('abort', end);
    if (!raw.writableEnded) raw.end();
    ended.abort();
  };
  raw.on('error', () => undefined); // 'close' follows and ends the stream.
  raw.once('close', end);
  closing.addEventListener('abort', end, { once: true });
  if (closing.aborted || raw.destroyed) end();
  const write = async (chunk: Buffer) => {
    if (ended.signal.aborted) return;
    if (!raw.write(chunk)) await drained(raw, ended.signal);
    else heartbeat.refresh();
  };
  return {
    write,
    async writePieces(pieces) {
      isWithinEvent = true;
      for (const piece of pieces) await write(piece);
      isWithinEvent = false;
    },
    offer(chunk) {
      if (!ended.signal.aborted && !raw.writableNeedDrain) raw.write(chunk);
    },
    end,
    ended: ended.signal,
  };
}
