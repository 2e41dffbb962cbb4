// Passes the output of a command in a box on to our own output, and its exit code to our own exit code.
// Each byte goes to the stream that the command wrote it to (stdout or stderr), as fast as our reader takes it.
import { once } from 'node:events';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import type { BoxRunClient } from '../../sdk/index.ts';
import type { Interrupt } from '../interrupt.ts';
import { createProgressNotice } from './waiting.ts';

/** The connection of our input to the command: see exec-input.ts. */
export interface ExecInput {
  /** Aborts when input can no longer be sent. The reason is the error, or `detached` if the user left. */
  readonly over: AbortSignal;
  /** Disconnects our input and restores the modes of our terminal. May be called more than once. */
  release(): void;
}

export const detached = 'detached';

type ExecIds = Parameters<BoxRunClient['execEvents']>[0];

/**
 * Passes the output on until the command ends. Cancels the command after an interrupt, or if its input is lost.
 * @returns the exit code for this process
 * @throws UNAVAILABLE if the server stays away; the error of the input
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
  // Restore the modes of the terminal before a message is printed.
  input?.release();
  if (interrupt.signal.aborted) return cancel(client, exec, interrupt);
  if (input?.over.reason === detached) {
    process.stderr.write(`\nboxrun: the command goes on; to see it: boxrun logs -f ${exec.box_id} ${exec.id}\n`);
    return 0;
  }
  if (input?.over.aborted === true) return cancelWithoutInput(client, exec, input.over.reason);
  throw new BoxRunError('UNAVAILABLE', `the stream of ${exec.id} was lost`);
}

/**
 * Passes on the output of a run (a command in a box of its own). The server cancels the run when we stop reading. While
 * the server creates the box, a terminal shows the progress.
 * @returns the exit code for this process
 */
export async function followRun(
  client: BoxRunClient,
  input: Parameters<BoxRunClient['runStream']>[0],
  { signal }: Interrupt,
): Promise<number> {
  const progress = createProgressNotice();
  try {
    for await (const event of client.runStream(input, {
      signal,
      onProgress: progress.onProgress,
    })) {
      progress.end();
      if (event.type === 'exit') return exitCodeOf(event.exitCode, event.error, event.warning);
      await passOn(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, signal);
    }
  } finally {
    progress.end();
  }
  throw new BoxRunError('UNAVAILABLE', 'the stream of the run was lost');
}

/**
 * Cancels a command whose input was lost. Otherwise the command would wait for ever, or treat a part of the input as
 * the whole.
 * @throws the error of the input, with a hint that says what became of the command
 */
async function cancelWithoutInput(client: BoxRunClient, exec: ExecIds, reason: unknown): Promise<never> {
  const known = toBoxRunError(reason);
  const hint = await client.cancelExec(exec.box_id, exec.id).then(
    () => 'the command in the box was canceled',
    (error: unknown) =>
      toBoxRunError(error).code === 'EXEC_ALREADY_FINISHED'
        ? 'the command had ended already'
        : 'the command may still run',
  );
  throw new BoxRunError(known.code, `the input of the command was lost: ${known.message}`, { hint });
}

/**
 * The exit code for this process, after a command has ended.
 * @param exitCode of the command; null if it did not end by itself
 * @param error why the command did not end by itself; printed
 * @param warning printed if there is no error
 */
export function exitCodeOf(exitCode: number | null, error: string | null, warning?: string): number {
  const message = error ?? warning ?? null;
  if (message !== null) process.stderr.write(`boxrun: ${message}\n`);
  if (exitCode === null) return 1;
  // A command that was canceled or timed out may still have ended with 0.
  return exitCode === 0 && error !== null ? 1 : exitCode;
}

async function cancel(client: BoxRunClient, exec: ExecIds, interrupt: Interrupt): Promise<number> {
  const outcome = await client.cancelExec(exec.box_id, exec.id).then(
    () => 'canceled the command in the box',
    (error: unknown) => {
      if (toBoxRunError(error).code === 'EXEC_ALREADY_FINISHED') return 'the command had ended already';
      throw error;
    },
  );
  if (!interrupt.isQuiet()) process.stderr.write(`\nboxrun: ${outcome}\n`);
  return interrupt.exitCode();
}

/** Writes `bytes`, and waits until `stream` takes more or `signal` aborts. */
export async function passOn(stream: NodeJS.WriteStream, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  if (stream.write(bytes) || signal.aborted) return;
  await once(stream, 'drain', { signal }).catch(() => undefined);
}
