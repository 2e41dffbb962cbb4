// Server-sent events on the wire: the form of an exec's events, and a stream that waits for its client.
// Used by the event stream of an exec, the stream of changes, and by create and run where they report progress.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Event } from '../../shared/contracts/writer.ts';
import { drained } from '../../shared/waiting/drained.ts';
import { limits } from '../../shared/limits.ts';
import type { GatewayParts } from '../parts.ts';

export const eventStreamType = 'text/event-stream; charset=utf-8';

/** How output is written: as text (what is no UTF-8 becomes U+FFFD), or byte for byte as base64. */
export type SseEncoding = 'text' | 'base64';

/** Whether a client asks for the steps of something long, not for its answer alone. */
export function acceptsStream(request: FastifyRequest): boolean {
  return request.headers.accept?.split(',').some((type) => type.trim().startsWith('text/event-stream')) ?? false;
}

// JSON escapes every other character at which some clients split lines.
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
 * A batch of events, in pieces: small events together, large ones alone, so that no batch stands in memory several
 * times over.
 */
export function* encodeEvents(events: readonly Event[], encoding: SseEncoding): Generator<Buffer, void, void> {
  yield* inPieces(mapped(events, (event) => encodeEvent(event, encoding)));
}

function* mapped<T>(values: Iterable<T>, encode: (value: T) => string): Generator<string, void, void> {
  for (const value of values) yield encode(value);
}

/** Texts in pieces: short ones together, long ones alone. */
export function* inPieces(texts: Iterable<string>): Generator<Buffer, void, void> {
  let piece = '';
  for (const text of texts) {
    piece += text;
    if (piece.length < limits.ssePieceChars) continue;
    yield Buffer.from(piece);
    piece = '';
  }
  if (piece !== '') yield Buffer.from(piece);
}

/** Messages whose content is JSON already, in pieces. */
export function encodeMessages(
  messages: readonly { readonly id: string; readonly kind: string; readonly json: string }[],
): Generator<Buffer, void, void> {
  return inPieces(mapped(messages, ({ id, kind, json }) => `id: ${id}\nevent: ${kind}\ndata: ${inOneLine(json)}\n\n`));
}

/** An event that is no exec's: without an id. */
export function encodeNotice(event: string, value: unknown): Buffer {
  return Buffer.from(`event: ${event}\ndata: ${jsonLine(value)}\n\n`);
}

/**
 * A comment, with one line break. Clients that remember the last id would take an empty line behind it for the end of
 * an event: httpx-sse, in the Python SDK, would give an event without data.
 */
const heartbeatLine = ': alive\n';

/** What a stream needs of the gateway. */
export type StreamParts = Pick<GatewayParts, 'closing' | 'places' | 'config'>;

export interface SseStream {
  /**
   * Sends `chunk`, which has whole events: a comment may follow it. Resolves when the client can take more, or the
   * stream has ended.
   */
  write(chunk: Buffer): Promise<void>;
  /** As `write`, for an event that is long: no comment comes between its pieces. */
  writePieces(pieces: Iterable<Buffer>): Promise<void>;
  /** As `write`, but dropped while the client does not read: for what it can do without. */
  offer(chunk: Buffer): void;
  end(): void;
  /** Aborts when the client is gone, or the gateway goes. */
  readonly ended: AbortSignal;
}

/**
 * Takes the connection over and starts the stream; while nothing is sent, comments keep it alive. Ends when `closing`
 * aborts.
 * @throws TOO_MANY_REQUESTS when the client has too many of them
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
    // Reverse proxies must not collect what is live.
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
  raw.on('error', () => undefined); // The client is gone: seen as `close`.
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
