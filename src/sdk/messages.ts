// Reads server-sent events: from one answer (readMessages), or from a sequence of connections (readOn).
// When a connection is lost, readOn reconnects and asks for the messages after the last one.
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { BoxRunError } from '../shared/errors.ts';
import { readChunks } from './byte-stream.ts';
import type { Transport, TransportRequest } from './transport.ts';

/** The meaning of one message. */
export interface Step<Event> {
  /** Null if the message holds nothing for the caller. */
  readonly event: Event | null;
  /** True if the stream ends after this message. */
  readonly isLast: boolean;
}

export interface Stream<Event> {
  /** Path with query for the next connection. */
  readonly path: () => string;
  /** Reads one message. Null if the message brings nothing new. */
  readonly take: (message: EventSourceMessage) => Step<Event> | null;
  /** Name of the stream in error messages. */
  readonly name: () => string;
  readonly signal?: AbortSignal | undefined;
  /** Gives up after this number of attempts in a row without a single event; 12 (about 30 s) when absent. */
  readonly attemptsMax?: number | undefined;
  /** Called each time a connection fails or ends, before the next attempt. */
  readonly onLost?: ((error: BoxRunError) => void) | undefined;
  /** Called each time the server has accepted a connection, before its first event is given. */
  readonly onConnected?: (() => void) | undefined;
}

const attemptsMaxDefault = 12;
/** The pause between two attempts doubles up to this, in milliseconds. */
const pauseMaxMs = 5_000;
/** A connection that lasted longer than this resets the count of attempts, in milliseconds. */
const goodConnectionMs = pauseMaxMs;
/** A working server sends something at least every 15 s. After this silence the connection counts as lost. */
const silenceMaxMs = 45_000;

/**
 * The messages of one answer.
 * @param onConnected called when the answer begins
 * @throws UNAVAILABLE, CANCELED, the error of the answer
 */
export async function* readMessages(
  transport: Transport,
  request: TransportRequest,
  onConnected?: () => void,
): AsyncGenerator<EventSourceMessage, void, void> {
  const response = await transport.send({ ...request, accept: 'text/event-stream' });
  onConnected?.();
  const decoder = new TextDecoder();
  let messages: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => messages.push(message) });
  try {
    for await (const chunk of readChunks(response.body, silenceMaxMs)) {
      parser.feed(decoder.decode(chunk, { stream: true }));
      const ready = messages;
      messages = [];
      for (const message of ready) {
        request.signal?.throwIfAborted(); // No message is given after the abort, even if it came before.
        yield message;
      }
    }
  } catch (error) {
    throw transport.errorOf(error, request.signal);
  }
}

/**
 * The events of a stream. It reconnects when a connection is lost or ends before the last event.
 * @throws UNAVAILABLE if the server stays away, CANCELED if the signal aborts; errors of the answer, unchanged
 */
export async function* readOn<Event>(transport: Transport, stream: Stream<Event>): AsyncGenerator<Event, void, void> {
  const { signal, attemptsMax = attemptsMaxDefault } = stream;
  let problem = new BoxRunError('UNAVAILABLE', 'the server ended the stream');
  for (let attempts = 0; attempts < attemptsMax;) {
    if (attempts > 0) await pause(Math.min(pauseMaxMs, 50 * 2 ** attempts), signal);
    attempts++;
    const startedAt = Date.now();
    try {
      for await (const message of readMessages(
        transport,
        { method: 'GET', path: stream.path(), signal },
        stream.onConnected,
      )) {
        const step = stream.take(message);
        if (step === null) continue;
        attempts = 0;
        if (step.event !== null) yield step.event;
        if (step.isLast) return;
      }
    } catch (error) {
      if (!(error instanceof BoxRunError) || error.code !== 'UNAVAILABLE') throw error;
      problem = error;
    }
    if (Date.now() - startedAt > goodConnectionMs) attempts = 0;
    stream.onLost?.(problem);
  }
  throw new BoxRunError('UNAVAILABLE', `${stream.name()} was lost`, {
    ...(problem.hint === undefined ? {} : { hint: problem.hint }),
    cause: problem,
  });
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted) throw new BoxRunError('CANCELED', 'the stream was closed');
  await new Promise<void>((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal?.addEventListener('abort', finish, { once: true });
  });
  if (signal?.aborted) throw new BoxRunError('CANCELED', 'the stream was closed');
}
