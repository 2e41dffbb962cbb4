// The output of a command in a box, on its way to ours: each byte to the stream that it was written to, no faster than
// our reader takes it; and the end of the command as our own exit code. Used by exec, run and logs.
import { once } from 'node:events';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import type { BoxRunClient } from '../../sdk/index.ts';
import type { Interrupt } from '../terminal/interrupt.ts';
import { createProgressLine } from './render.ts';

/** Our input on its way to the command: see exec-input.ts. */
export interface ExecInput {
  /** Aborts when there is no way on for the input: the reason is the error, or `detached` where a person has left. */
  readonly over: AbortSignal;
  /** Gives our own input, and our terminal its modes, back. May be called again. */
  release(): void;
}

export const detached = 'detached';

type ExecIds = Parameters<BoxRunClient['execEvents']>[0];

/**
 * Passes everything on until the command ends; when we are interrupted, or the way of its input is lost, the command is
 * ended. Gives the exit code.
 */
export async function followExec(
  client: BoxRunClient,
  exec: ExecIds,
  interrupt: Interrupt,
  input: ExecInput | null = null,
): Promise<number> {
  const signal = input === null ? interrupt.signal : AbortSignal.any([interrupt.signal, input.over]);
  try {
    for await (const event of client.execEvents(exec, { signal })) {
      if (event.type === 'exit') {
        input?.release();
        return exitCodeOf(event.exitCode, event.error, event.warning);
      }
      await passOn(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  // What is printed from here on needs the terminal's own modes.
  input?.release();
  if (interrupt.signal.aborted) return cancel(client, exec, interrupt);
  if (input?.over.reason === detached) {
    process.stderr.write(`\nboxrun: the command goes on; to see it: boxrun logs -f ${exec.box_id} ${exec.id}\n`);
    return 0;
  }
  if (input?.over.aborted === true) return endWithoutInput(client, exec, input.over.reason);
  throw new BoxRunError('UNAVAILABLE', `the stream of ${exec.id} was lost`);
}

/**
 * The same for a command in a box of its own, which ends with our interest in it. While the box is made, a person sees
 * how far that is.
 */
export async function followRun(
  client: BoxRunClient,
  input: Parameters<BoxRunClient['runStream']>[0],
  { signal }: Interrupt,
): Promise<number> {
  const progress = createProgressLine(process.stderr);
  try {
    for await (const event of client.runStream(input, {
      signal,
      onProgress: ({ message }) => progress.show(message),
    })) {
      progress.clear();
      if (event.type === 'exit') return exitCodeOf(event.exitCode, event.error, event.warning);
      await passOn(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, signal);
    }
  } finally {
    progress.clear();
  }
  throw new BoxRunError('UNAVAILABLE', 'the stream of the run was lost');
}

/** Without its input a command would wait for ever, or take a part for the whole. */
async function endWithoutInput(client: BoxRunClient, exec: ExecIds, reason: unknown): Promise<never> {
  const known = toBoxRunError(reason);
  const hint = await client.cancelExec(exec.box_id, exec.id).then(
    () => 'the command in the box was canceled',
    (error: unknown) =>
      toBoxRunError(error).code === 'EXEC_ALREADY_FINISHED'
        ? 'the command had ended already'
        : 'the command may still run',
  );
  throw new BoxRunError(known.code, `the input of the command broke off: ${known.message}`, { hint });
}

/** Our exit code for a command that ended like this; says why where it did not end by itself. */
export function exitCodeOf(exitCode: number | null, error: string | null, warning?: string): number {
  const word = error ?? warning ?? null;
  if (word !== null) process.stderr.write(`boxrun: ${word}\n`);
  if (exitCode === null) return 1;
  return exitCode === 0 && error !== null ? 1 : exitCode;
}

async function cancel(client: BoxRunClient, exec: ExecIds, interrupt: Interrupt): Promise<number> {
  const done = await client.cancelExec(exec.box_id, exec.id).then(
    () => 'canceled the command in the box',
    (error: unknown) => {
      if (toBoxRunError(error).code === 'EXEC_ALREADY_FINISHED') return 'the command had ended already';
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
