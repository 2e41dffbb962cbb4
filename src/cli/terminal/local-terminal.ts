// Connects the terminal of this process to a terminal in a box. Keys go to the box as they are typed, output comes
// back, and the terminal in the box has the size of this one. The modes of this terminal are restored at every end.
import type { BoxRunClient, Terminal } from '../../sdk/index.ts';
import { createDetachKeys, detachWaitMs } from '../parsing/detach-keys.ts';
import type { Interrupt, Interrupts } from '../interrupt.ts';
import { UsageError } from '../parsing/options.ts';
import { passOn } from '../render/command-output.ts';
import { enterRawMode } from './terminal-modes.ts';

interface TerminalEnd {
  readonly exitCode: number;
  /** True if the user left with the detach keys. */
  readonly isDetached: boolean;
}

/** @throws UsageError if standard input or output is not a terminal */
export function requireTerminal(): void {
  if (!process.stdin.isTTY || !process.stdout.isTTY)
    throw new UsageError('this needs a terminal; without one, use: boxrun exec BOX -- COMMAND');
}

function sizeHere(): { cols: number; rows: number } {
  return { cols: process.stdout.columns || 80, rows: process.stdout.rows || 24 };
}

/** Size (in characters and lines) and TERM of this terminal, for a new terminal in a box. */
export function terminalHere(): { cols: number; rows: number; term?: string } {
  const term = process.env['TERM'];
  return { ...sizeHere(), ...(term === undefined || term === '' ? {} : { term }) };
}

/** Opens a shell in `box` and connects this terminal to it, until the shell ends or the user leaves. */
export async function openHere(
  client: BoxRunClient,
  box: string,
  { shell, detachKeys }: { readonly shell: string | undefined; readonly detachKeys: readonly number[] },
  interrupts: Interrupts,
): Promise<TerminalEnd> {
  const interrupt = interrupts.catch();
  try {
    const settings = { ...terminalHere(), ...(shell === undefined ? {} : { shell }) };
    const terminal = await client.attach(box, { ...settings, signal: interrupt.signal });
    return await connect(terminal, detachKeys, interrupt);
  } finally {
    interrupt.release();
  }
}

/**
 * Connects this terminal to a command in a box that has a terminal, until the command ends or the user leaves. Then the
 * command goes on, and a line on stderr says how to come back.
 * @returns the exit code for this process
 */
export async function attachHere(
  client: BoxRunClient,
  exec: { readonly box_id: string; readonly id: string },
  detachKeys: readonly number[],
  interrupts: Interrupts,
): Promise<number> {
  const interrupt = interrupts.catch();
  try {
    const terminal = await client.attachExec(exec.box_id, exec.id, { signal: interrupt.signal });
    const { exitCode, isDetached } = await connect(terminal, detachKeys, interrupt);
    const hasLeft = isDetached || interrupt.signal.aborted;
    if (hasLeft && !interrupt.isQuiet())
      process.stderr.write(`boxrun: the terminal goes on; to come back: boxrun attach ${exec.box_id} ${exec.id}\n`);
    return exitCode;
  } finally {
    interrupt.release();
  }
}

/** Connects this terminal to `terminal` until `terminal` ends. */
async function connect(terminal: Terminal, detachKeys: readonly number[], interrupt: Interrupt): Promise<TerminalEnd> {
  let isDetached = false;
  let isExited = false;
  const disconnect = await connectKeys(terminal, detachKeys, () => {
    isDetached = true;
    terminal.close();
  });
  try {
    const shown = (async () => {
      for await (const piece of terminal.output) await passOn(process.stdout, piece, interrupt.signal);
    })();
    shown.catch(() => undefined);
    const { exitCode } = await terminal.exited;
    await shown;
    isExited = true;
    return { exitCode: exitCode ?? 1, isDetached: false };
  } catch (error) {
    if (isDetached) return { exitCode: 0, isDetached };
    if (interrupt.signal.aborted) return { exitCode: interrupt.exitCode(), isDetached: false };
    throw error;
  } finally {
    disconnect();
    // The cursor may stand in the middle of a line.
    if (!isExited && !interrupt.isQuiet()) process.stderr.write('\n');
  }
}

/**
 * Puts this terminal into raw mode. Sends each key to `terminal` as it is typed, and the size of this terminal whenever
 * it changes.
 * @param onDetach called when the detach keys were typed
 * @returns a function that disconnects the keys and restores the modes of this terminal
 */
export async function connectKeys(
  terminal: Terminal,
  detachKeys: readonly number[],
  onDetach: () => void,
): Promise<() => void> {
  const { stdin, stdout } = process;
  const keys = createDetachKeys(detachKeys);
  let flushTimer: NodeJS.Timeout | undefined;
  const onResize = () => {
    const { cols, rows } = sizeHere();
    terminal.resize(cols, rows);
  };
  const send = async (bytes: Uint8Array) => {
    // If the connection fails, `exited` rejects with the error.
    if (bytes.length > 0) await terminal.write(bytes).catch(() => undefined);
  };
  const onKeys = (typed: Buffer) => {
    clearTimeout(flushTimer);
    const { bytes, isDetach } = keys.take(typed);
    stdin.pause();
    void send(bytes).then(() => {
      if (isDetach) onDetach();
      else stdin.resume();
    });
    if (!isDetach) flushTimer = setTimeout(() => void send(keys.flush()), detachWaitMs);
  };
  const restore = await enterRawMode(stdin);
  stdin.on('data', onKeys);
  stdout.on('resize', onResize);
  onResize();
  return () => {
    clearTimeout(flushTimer);
    stdin.off('data', onKeys);
    stdin.pause();
    stdout.off('resize', onResize);
    restore();
  };
}
