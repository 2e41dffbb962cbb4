// Server-sent events out of an answer, and the events of an exec over as many connections as it takes. Called by client.ts.
// Each event is given once, in order of seq, however often the connection is lost.
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import type { Exec } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import { readChunks } from './byte-stream.ts';
import type { Transport, TransportRequest } from './transport.ts';

/** What a command has written, exactly. */
export interface LogEvent {
  readonly type: 'log';
  readonly seq: number;
  readonly stream: 'stdout' | 'stderr';
  readonly bytes: Uint8Array;
  /** `bytes` as UTF-8; what is none becomes U+FFFD. */
  readonly text: string;
}

/** How a command has ended; always the last event. */
export interface ExitEvent {
  readonly type: 'exit';
  readonly seq: number;
  readonly exitCode: number | null;
  /** Where it did not end by itself: canceled, timed out, or lost. */
  readonly error: string | null;
}

export type ExecEvent = LogEvent | ExitEvent;

export interface ExecEventsOptions {
  /** Only events after this seq; all when absent. */
  readonly after?: number;
  readonly signal?: AbortSignal;
}

/** A stream that brings nothing new is given up after so many connections in a row ... */
const attemptsMax = 12;
/** ... with pauses between them that grow up to this (milliseconds). */
const longestPauseMs = 5_000;
/** A server at work sends something at least every 15 s; so much silence means that it is gone (milliseconds). */
const silenceMaxMs = 45_000;

/** The messages of one answer. */
export async function* readMessages(transport: Transport, request: TransportRequest): AsyncGenerator<EventSourceMessage, void, void> {
  const response = await transport.send({ ...request, accept: 'text/event-stream' });
  const decoder = new TextDecoder();
  let messages: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => messages.push(message) });
  try {
    for await (const chunk of readChunks(response.body, silenceMaxMs)) {
      parser.feed(decoder.decode(chunk, { stream: true }));
      const ready = messages;
      messages = [];
      yield* ready;
    }
  } catch (error) {
    throw transport.errorOf(error, request.signal);
  }
}

/**
 * All events of an exec up to its exit, each once and in order. A connection that is lost is made again and goes on
 * after the last event.
 * @throws EXEC_NOT_FOUND, BOX_NOT_FOUND, CANCELED; UNAVAILABLE when the server stays away
 */
export async function* readExecEvents(
  transport: Transport,
  exec: Pick<Exec, 'id' | 'box_id'>,
  { after = -1, signal }: ExecEventsOptions,
): AsyncGenerator<ExecEvent, void, void> {
  const path = `/v1/boxes/${encodeURIComponent(exec.box_id)}/exec/${encodeURIComponent(exec.id)}/events`;
  let lastSeq = after;
  let attempts = 0;
  let problem: unknown;
  while (attempts < attemptsMax) {
    if (attempts > 0) await pause(Math.min(longestPauseMs, 50 * 2 ** attempts), signal);
    attempts++;
    try {
      const query = `?encoding=base64&after=${lastSeq}`;
      for await (const message of readMessages(transport, { method: 'GET', path: `${path}${query}`, signal })) {
        const event = parseExecEvent(message, transport.platform.bytesOfBase64);
        if (event === null || event.seq <= lastSeq) continue;
        lastSeq = event.seq;
        attempts = 0;
        yield event;
        if (event.type === 'exit') return;
      }
    } catch (error) {
      if (!(error instanceof BoxRunError) || error.code !== 'UNAVAILABLE') throw error;
      problem = error;
    }
  }
  throw new BoxRunError('UNAVAILABLE', `the stream of ${exec.id} was lost after event ${lastSeq}`, {
    hint: 'the command may still run',
    cause: problem,
  });
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

function parseExecEvent({ event, data }: EventSourceMessage, bytesOfBase64: (text: string) => Uint8Array): ExecEvent | null {
  if (event !== 'log' && event !== 'exit') return null;
  const value = JSON.parse(data) as { stream: 'stdout' | 'stderr'; data?: string; data_b64: string; seq: number };
  if (event === 'log') {
    const bytes = bytesOfBase64(value.data_b64);
    return { type: 'log', seq: value.seq, stream: value.stream, bytes, get text() { return utf8.decode(bytes); } };
  }
  const exit = JSON.parse(value.data ?? '{}') as { exit_code?: number | null; error?: string };
  return { type: 'exit', seq: value.seq, exitCode: exit.exit_code ?? null, error: exit.error ?? null };
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted) throw new BoxRunError('CANCELED', 'the stream was closed');
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
  if (signal?.aborted) throw new BoxRunError('CANCELED', 'the stream was closed');
}
