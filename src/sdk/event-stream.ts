// The output events of one command, or of one run. For a command, it reconnects when the connection is lost.
// Each event is given exactly once, in the order of seq.
import type { EventSourceMessage } from 'eventsource-parser';
import type { Exec, Progress } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import { errorOfAnswer } from './errors.ts';
import { readMessages, readOn, type Step } from './messages.ts';
import type { Transport } from './transport.ts';

/** One piece of a command's output, byte for byte. */
export interface LogEvent {
  readonly type: 'log';
  readonly seq: number;
  readonly stream: 'stdout' | 'stderr';
  readonly bytes: Uint8Array;
  /** `bytes` decoded as UTF-8. Invalid bytes become U+FFFD. */
  readonly text: string;
}

/** The exit of a command. It is always the last event. */
export interface ExitEvent {
  readonly type: 'exit';
  readonly seq: number;
  /** Null if the command did not end by itself. */
  readonly exitCode: number | null;
  /** Why the command did not end by itself (canceled, timed out, out of memory, lost); else null. */
  readonly error: string | null;
  /** Set if the command succeeded, but one of its child processes was killed because memory ran out. */
  readonly warning?: string;
}

export type ExecEvent = LogEvent | ExitEvent;

export interface ExecEventsOptions {
  /** Gives only events after this seq; all events when absent. */
  readonly after?: number | undefined;
  /** False: gives only the events that exist now. For a running command, there is no exit then. True when absent. */
  readonly follow?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * All output events of a command up to its exit, each exactly once and in order. If the connection is lost, it
 * reconnects and goes on after the last event.
 * @throws EXEC_NOT_FOUND, BOX_NOT_FOUND, CANCELED; UNAVAILABLE if the server stays away
 */
export function readExecEvents(
  transport: Transport,
  exec: Pick<Exec, 'id' | 'box_id'>,
  { after = -1, follow = true, signal }: ExecEventsOptions,
): AsyncGenerator<ExecEvent, void, void> {
  const path = `/v1/boxes/${encodeURIComponent(exec.box_id)}/exec/${encodeURIComponent(exec.id)}/events`;
  let lastSeq = after;
  return readOn<ExecEvent>(transport, {
    signal,
    path: () => `${path}?encoding=base64${follow ? '' : '&follow=false'}&after=${lastSeq}`,
    name: () => `the stream of ${exec.id}, after event ${lastSeq},`,
    take(message) {
      const step = stepOf(message, transport.platform.bytesOfBase64);
      if (step?.event === null) return step;
      if (step === null || step.event.seq <= lastSeq) return null;
      lastSeq = step.event.seq;
      return step;
    },
  });
}

export interface RunStreamOptions {
  /** Called at each step of creating the box. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The output events of a run as they come. The exit comes after the box is removed.
 * It never reconnects, because the server removes the box of a run when the connection is lost.
 * @throws the errors of the run; UNAVAILABLE if the connection is lost
 */
export async function* readRunEvents(
  transport: Transport,
  input: unknown,
  { onProgress, signal }: RunStreamOptions,
): AsyncGenerator<ExecEvent, void, void> {
  const request = { method: 'POST', path: '/v1/run?encoding=base64', json: input, signal } as const;
  for await (const message of readMessages(transport, request)) {
    if (message.event === 'progress') onProgress?.(JSON.parse(message.data) as Progress);
    if (message.event === 'error') throw errorOfAnswer(200, message.data);
    const step = stepOf(message, transport.platform.bytesOfBase64);
    if (step === null || step.event === null) continue;
    yield step.event;
    if (step.isLast) return;
  }
  throw new BoxRunError('UNAVAILABLE', 'the server ended during the run', {
    hint: 'the box of the run is removed in every case; run it again',
  });
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

function stepOf(
  { event, data }: EventSourceMessage,
  bytesOfBase64: (text: string) => Uint8Array,
): Step<ExecEvent> | null {
  if (event === 'end') return { event: null, isLast: true };
  if (event !== 'log' && event !== 'exit') return null;
  const value = JSON.parse(data) as { stream: 'stdout' | 'stderr'; data?: string; data_b64: string; seq: number };
  if (event === 'log') {
    const bytes = bytesOfBase64(value.data_b64);
    const log: LogEvent = {
      type: 'log',
      seq: value.seq,
      stream: value.stream,
      bytes,
      get text() {
        return utf8.decode(bytes);
      },
    };
    return { event: log, isLast: false };
  }
  const exit = JSON.parse(value.data ?? '{}') as { exit_code?: number | null; error?: string; warning?: string };
  const warning = exit.warning === undefined ? {} : { warning: exit.warning };
  return {
    event: { type: 'exit', seq: value.seq, exitCode: exit.exit_code ?? null, error: exit.error ?? null, ...warning },
    isLast: true,
  };
}
