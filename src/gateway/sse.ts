// Server-sent events on the wire: the form of an exec's events, and a stream that waits for its client.
// Used by the event stream of an exec, the stream of changes, and by create and run where they report progress.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Event } from '../shared/contracts/writer.ts';
import { drained } from '../shared/drained.ts';
import { limits } from '../shared/limits.ts';
import type { GatewayParts } from './parts.ts';

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
  let text = '';
  for (const event of events) {
    text += encodeEvent(event, encoding);
    if (text.length < limits.ssePieceChars) continue;
    yield Buffer.from(text);
    text = '';
  }
  if (text !== '') yield Buffer.from(text);
}

/** Messages whose content is JSON already, as one buffer. */
export function encodeMessages(
  messages: readonly { readonly id: string; readonly kind: string; readonly json: string }[],
): Buffer {
  return Buffer.from(
    messages.map(({ id, kind, json }) => `id: ${id}\nevent: ${kind}\ndata: ${inOneLine(json)}\n\n`).join(''),
  );
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
  const heartbeat = setInterval(() => {
    if (!raw.writableNeedDrain) raw.write(heartbeatLine);
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
  return {
    async write(chunk) {
      if (ended.signal.aborted) return;
      if (!raw.write(chunk)) await drained(raw, ended.signal);
      else heartbeat.refresh();
    },
    end,
    ended: ended.signal,
  };
}
