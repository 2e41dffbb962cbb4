// Server-sent events out of an answer, and out of as many answers as it takes: a connection that is lost is made again,
// and asks for what comes behind the last message. Called by event-stream.ts, state-stream.ts and client.ts.
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { BoxRunError } from '../shared/errors.ts';
import { readChunks } from './byte-stream.ts';
import type { Transport, TransportRequest } from './transport.ts';

/** What one message is: an event, or none that is for the reader; and whether it is the last one. */
export interface Step<Event> {
  readonly event: Event | null;
  readonly isLast: boolean;
}

export interface Stream<Event> {
  /** Of the next connection, with its query. */
  readonly path: () => string;
  /** Null for a message that brings nothing new. */
  readonly take: (message: EventSourceMessage) => Step<Event> | null;
  /** What is lost when it is lost. */
  readonly name: () => string;
  readonly signal?: AbortSignal | undefined;
  /** Given up after so many connections in a row that brought nothing; 12 (about half a minute) when absent. */
  readonly attemptsMax?: number | undefined;
  /** Told each time that there is no connection, before the next try. */
  readonly onLost?: ((error: BoxRunError) => void) | undefined;
  /** Told each time that a connection stands, before anything of it is given. */
  readonly onConnected?: (() => void) | undefined;
}

const attemptsMaxDefault = 12;
/** Pauses between the tries grow up to this; a connection that has held for so long was a good one (milliseconds). */
const longestPauseMs = 5_000;
/** A server at work sends something at least every 15 s; so much silence means that it is gone (milliseconds). */
const silenceMaxMs = 45_000;

/** The messages of one answer. */
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
        request.signal?.throwIfAborted(); // What has come before the abort is not given after it.
        yield message;
      }
    }
  } catch (error) {
    throw transport.errorOf(error, request.signal);
  }
}

/** @throws UNAVAILABLE when the server stays away, CANCELED when the signal aborts; errors of the answer as they are */
export async function* readOn<Event>(transport: Transport, stream: Stream<Event>): AsyncGenerator<Event, void, void> {
  const { signal, attemptsMax = attemptsMaxDefault } = stream;
  let problem = new BoxRunError('UNAVAILABLE', 'the server ended the stream');
  for (let attempts = 0; attempts < attemptsMax;) {
    if (attempts > 0) await pause(Math.min(longestPauseMs, 50 * 2 ** attempts), signal);
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
    if (Date.now() - startedAt > longestPauseMs) attempts = 0;
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
