// The events of an exec, over as many connections as it takes. Called by client.ts.
// Each event is given once, in order of seq, however often the connection is lost.
import type { EventSourceMessage } from 'eventsource-parser';
import type { Exec, Progress } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import { errorOfAnswer } from './errors.ts';
import { readMessages, readOn, type Step } from './messages.ts';
import type { Transport } from './transport.ts';

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
  /** Where it did not end by itself: canceled, timed out, out of memory, or lost. */
  readonly error: string | null;
  /** It has succeeded, but a child of it was killed for lack of memory. */
  readonly warning?: string;
}

export type ExecEvent = LogEvent | ExitEvent;

export interface ExecEventsOptions {
  /** Only events after this seq; all when absent. */
  readonly after?: number | undefined;
  /** False: only what there is by now, of a running command without an exit. */
  readonly follow?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * All events of an exec up to its exit, each once and in order. A connection that is lost is made again and goes on
 * after the last event.
 * @throws EXEC_NOT_FOUND, BOX_NOT_FOUND, CANCELED; UNAVAILABLE when the server stays away
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
  /** Told each step of making the box. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The events of a command in a box of its own, as they come; the exit comes when the box is removed.
 * @throws as the run; UNAVAILABLE when the server goes, for the box goes with it
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
  throw new BoxRunError('UNAVAILABLE', 'the server went during the run', {
    hint: 'the box of a run is removed whatever happens; run it again',
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
