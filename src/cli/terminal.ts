// This terminal, connected to one in a box: keys go there as they are typed, and the screen comes back, at the size that this
// one has. Used by attach and shell. However it ends, this terminal gets its own modes back.
import type { BoxRunClient, Terminal } from '../sdk/index.ts';
import { createDetachKeys } from './detach-keys.ts';
import type { Interrupt, Interrupts } from './interrupt.ts';
import { UsageError } from './options.ts';
import { passOn } from './output.ts';

interface TerminalEnd {
  readonly exitCode: number;
  /** Left with the detach keys. */
  readonly isDetached: boolean;
}

export function requireTerminal(): void {
  if (!process.stdin.isTTY || !process.stdout.isTTY) throw new UsageError('this needs a terminal; without one, use: boxrun exec BOX -- COMMAND');
}

/** What a terminal in a box is to be like: as this one. */
function sizeHere(): { cols: number; rows: number } {
  return { cols: process.stdout.columns || 80, rows: process.stdout.rows || 24 };
}

/** Opens a shell in `box` here, until it ends or is left. */
export async function openHere(client: BoxRunClient, box: string, shell: string | undefined, interrupts: Interrupts): Promise<TerminalEnd> {
  const interrupt = interrupts.catch();
  try {
    const term = process.env['TERM'];
    const terminal = await client.attach(box, {
      ...sizeHere(),
      ...(shell === undefined ? {} : { shell }),
      ...(term === undefined || term === '' ? {} : { term }),
      signal: interrupt.signal,
    });
    return await connect(terminal, interrupt);
  } finally {
    interrupt.release();
  }
}

/** Connects this terminal to `terminal` until that ends. */
async function connect(terminal: Terminal, interrupt: Interrupt): Promise<TerminalEnd> {
  const keys = createDetachKeys();
  let isDetached = false;
  let isExited = false;
  const onResize = () => {
    const { cols, rows } = sizeHere();
    terminal.resize(cols, rows);
  };
  const onKeys = (typed: Buffer) => {
    const { bytes, isDetach } = keys.take(typed);
    process.stdin.pause();
    const sent = bytes.length === 0 ? Promise.resolve() : terminal.write(bytes);
    // An error of the connection is told by `exited`.
    void sent.catch(() => undefined).then(() => {
      if (isDetach) {
        isDetached = true;
        terminal.close();
      } else {
        process.stdin.resume();
      }
    });
  };
  const restore = () => { process.stdin.setRawMode(false); };
  // Whatever ends this program, but SIGKILL.
  process.once('exit', restore);
  process.stdin.setRawMode(true);
  process.stdin.on('data', onKeys);
  process.stdout.on('resize', onResize);
  onResize();
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
    process.stdin.off('data', onKeys);
    process.stdin.pause();
    process.stdout.off('resize', onResize);
    process.off('exit', restore);
    restore();
    // The cursor stands where the box has left it.
    if (!isExited && !interrupt.isQuiet()) process.stderr.write('\n');
  }
}
