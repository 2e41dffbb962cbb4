// The events of one command, from the first: what `boxrun logs` prints. Looking on changes nothing: an interrupt ends the
// looking, never the command.
import type { Exec, BoxRunClient, ExecEvent } from '../sdk/index.ts';
import type { Interrupt } from './interrupt.ts';
import { passOn } from './output.ts';

interface LogsOptions {
  /** Until the command ends; else only what there is by now. */
  readonly follow: boolean;
  /** One JSON object a line instead of the bytes. */
  readonly json: boolean;
}

/** The stream does not say where the past ends. Past events come without a pause, so a pause of this length is the end of them. */
const pauseMs = 500;

export async function printEvents(client: BoxRunClient, exec: Exec, { follow, json }: LogsOptions, interrupt: Interrupt): Promise<number> {
  const pause = new AbortController();
  const timer = follow || exec.status !== 'running' ? null : setTimeout(() => { pause.abort(); }, pauseMs);
  const signal = AbortSignal.any([interrupt.signal, pause.signal]);
  try {
    for await (const event of client.execEvents(exec, { signal })) {
      if (json) await passOn(process.stdout, Buffer.from(`${JSON.stringify(jsonOf(event))}\n`), interrupt.signal);
      else if (event.type === 'log') await passOn(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, interrupt.signal);
      timer?.refresh();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    if (timer !== null) clearTimeout(timer);
  }
  return interrupt.signal.aborted ? interrupt.exitCode() : 0;
}

function jsonOf(event: ExecEvent): unknown {
  if (event.type === 'exit') return { seq: event.seq, type: 'exit', exit_code: event.exitCode, error: event.error };
  return { seq: event.seq, type: 'log', stream: event.stream, data: event.text };
}
