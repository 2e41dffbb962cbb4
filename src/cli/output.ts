// The output of a command in a box, on its way to ours: each byte to the stream that it was written to, no faster than our
// reader takes it; and the end of the command as our own exit code. Used by exec, run and logs.
import { once } from 'node:events';
import { BoxRunError } from '../shared/errors.ts';
import type { BoxRunClient } from '../sdk/index.ts';
import type { Interrupt } from './interrupt.ts';

type ExecIds = Parameters<BoxRunClient['execEvents']>[0];

/** Passes everything on until the command ends; when we are interrupted, the command is. Gives the exit code. */
export async function followExec(client: BoxRunClient, exec: ExecIds, interrupt: Interrupt): Promise<number> {
  try {
    for await (const event of client.execEvents(exec, { signal: interrupt.signal })) {
      if (event.type === 'exit') return exitCodeOf(event.exitCode, event.error);
      await passOn(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, interrupt.signal);
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
  }
  if (!interrupt.signal.aborted) throw new BoxRunError('UNAVAILABLE', `the stream of ${exec.id} was lost`);
  return cancel(client, exec, interrupt);
}

/** Our exit code for a command that ended like this; says why where it did not end by itself. */
export function exitCodeOf(exitCode: number | null, error: string | null): number {
  if (error !== null) process.stderr.write(`boxrun: ${error}\n`);
  if (exitCode === null) return 1;
  return exitCode === 0 && error !== null ? 1 : exitCode;
}

async function cancel(client: BoxRunClient, exec: ExecIds, interrupt: Interrupt): Promise<number> {
  const done = await client.cancelExec(exec.box_id, exec.id).then(
    () => 'canceled the command in the box',
    (error: unknown) => {
      if (error instanceof BoxRunError && error.code === 'EXEC_ALREADY_FINISHED') return 'the command had ended already';
      throw error;
    },
  );
  if (!interrupt.isQuiet()) process.stderr.write(`\nboxrun: ${done}\n`);
  return interrupt.exitCode();
}

/** Waits until `stream` takes more, or nobody wants it to. */
export async function passOn(stream: NodeJS.WriteStream, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  if (stream.write(bytes) || signal.aborted) return;
  await once(stream, 'drain', { signal }).catch(() => undefined);
}
