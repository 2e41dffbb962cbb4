// Prints the output events of one command, from the first one.
// It only reads: an interrupt ends the printing, never the command.
import type { Exec, BoxRunClient, ExecEvent } from '../../sdk/index.ts';
import type { Interrupt } from '../interrupt.ts';
import { passOn } from './command-output.ts';

interface LogsOptions {
  /** Goes on until the command ends. If false, prints only the output that exists now. */
  readonly follow: boolean;
  /** Prints one JSON object on each line instead of the bytes. */
  readonly json: boolean;
}

/** Returns the exit code: 0, or that of the interrupt. @throws UNAVAILABLE if the server stays away */
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
