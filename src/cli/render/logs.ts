// The events of one command, from the first: what `boxrun logs` prints. Looking on changes nothing: an interrupt ends
// the looking, never the command.
import type { Exec, BoxRunClient, ExecEvent } from '../../sdk/index.ts';
import type { Interrupt } from '../terminal/interrupt.ts';
import { passOn } from './command-output.ts';

interface LogsOptions {
  /** Until the command ends; else only what there is by now. */
  readonly follow: boolean;
  /** One JSON object a line instead of the bytes. */
  readonly json: boolean;
}

export async function printEvents(
  client: BoxRunClient,
  exec: Exec,
  { follow, json }: LogsOptions,
  interrupt: Interrupt,
): Promise<number> {
  const { signal } = interrupt;
  try {
    for await (const event of client.execEvents(exec, { follow, signal })) {
      if (json) await passOn(process.stdout, Buffer.from(`${JSON.stringify(jsonOf(event))}\n`), signal);
      else if (event.type === 'log')
        await passOn(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return signal.aborted ? interrupt.exitCode() : 0;
}

function jsonOf(event: ExecEvent): unknown {
  if (event.type === 'exit') return { seq: event.seq, type: 'exit', exit_code: event.exitCode, error: event.error };
  return { seq: event.seq, type: 'log', stream: event.stream, data: event.text };
}
