// This terminal, connected to one in a box: keys go there as they are typed, and the screen comes back, at the size
// that this one has. Used by attach, shell and exec. However it ends, this terminal gets its own modes back.
import type { BoxRunClient, Terminal } from '../../sdk/index.ts';
import { createDetachKeys, detachWaitMs } from './detach-keys.ts';
import type { Interrupt, Interrupts } from './interrupt.ts';
import { UsageError } from '../parsing/options.ts';
import { passOn } from '../render/command-output.ts';
import { enterRawMode } from './terminal-modes.ts';

interface TerminalEnd {
  readonly exitCode: number;
  /** Left with the detach keys. */
  readonly isDetached: boolean;
}

export function requireTerminal(): void {
  if (!process.stdin.isTTY || !process.stdout.isTTY)
    throw new UsageError('this needs a terminal; without one, use: boxrun exec BOX -- COMMAND');
}

function sizeHere(): { cols: number; rows: number } {
  return { cols: process.stdout.columns || 80, rows: process.stdout.rows || 24 };
}

/** What a terminal in a box is to be like: as this one. */
export function terminalHere(): { cols: number; rows: number; term?: string } {
  const term = process.env['TERM'];
  return { ...sizeHere(), ...(term === undefined || term === '' ? {} : { term }) };
}

/** Opens a shell in `box` here, until it ends or is left. */
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

/** Connects this terminal to `terminal` until that ends. */
async function connect(terminal: Terminal, detachKeys: readonly number[], interrupt: Interrupt): Promise<TerminalEnd> {
  let isDetached = false;
  let isExited = false;
  const release = await connectKeys(terminal, detachKeys, () => {
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
    release();
    // The cursor stands where the box has left it.
    if (!isExited && !interrupt.isQuiet()) process.stderr.write('\n');
  }
}

/**
 * Sends the keys of this terminal, each as it is typed, and its size whenever that changes.
 * @returns what gives the terminal its own modes back
 */
export async function connectKeys(
  terminal: Terminal,
  detachKeys: readonly number[],
  onDetach: () => void,
): Promise<() => void> {
  const { stdin, stdout } = process;
  const keys = createDetachKeys(detachKeys);
  let waiting: NodeJS.Timeout | undefined;
  const onResize = () => {
    const { cols, rows } = sizeHere();
    terminal.resize(cols, rows);
  };
  const send = async (bytes: Uint8Array) => {
    // An error of the connection is told by `exited`.
    if (bytes.length > 0) await terminal.write(bytes).catch(() => undefined);
  };
  const onKeys = (typed: Buffer) => {
    clearTimeout(waiting);
    const { bytes, isDetach } = keys.take(typed);
    stdin.pause();
    void send(bytes).then(() => {
      if (isDetach) onDetach();
      else stdin.resume();
    });
    if (!isDetach) waiting = setTimeout(() => void send(keys.flush()), detachWaitMs);
  };
  const restore = await enterRawMode(stdin);
  stdin.on('data', onKeys);
  stdout.on('resize', onResize);
  onResize();
  return () => {
    clearTimeout(waiting);
    stdin.off('data', onKeys);
    stdin.pause();
    stdout.off('resize', onResize);
    restore();
  };
}
