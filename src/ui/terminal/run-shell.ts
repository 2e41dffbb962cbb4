// The life of one shell in a box: attaches to it and copies its output to a screen until it ends. It starts exactly one
// shell: a shell that is lost is never replaced, because the user would not notice that its state is gone.
import type { AttachOptions, Terminal } from '../../sdk/browser.ts';
import { describeError } from '../live/client.ts';

/** The part of an xterm.js screen that this file uses. */
export interface ShellScreen {
  readonly cols: number;
  readonly rows: number;
  write(data: Uint8Array, onWritten: () => void): void;
}

/**
 * Runs a shell until it ends. The server chooses the shell: bash, or sh if the box has no bash.
 * @param attach opens the terminal in the box
 * @param onOpen called once, when the terminal is open
 * @param signal closes the terminal, also while it is still connecting
 * @returns the reason of the end, for the user
 */
export async function runShell(
  attach: (options: AttachOptions) => Promise<Terminal>,
  screen: ShellScreen,
  onOpen: (terminal: Terminal) => void,
  signal: AbortSignal,
): Promise<string> {
  try {
    const terminal = await attach({ cols: screen.cols, rows: screen.rows, signal });
    onOpen(terminal);
    await copyOutput(terminal, screen);
    const { exitCode, error } = await terminal.exited;
    return error ?? `The shell ended with exit code ${exitCode ?? 'none'}.`;
  } catch (error) {
    return reasonOf(error);
  }
}

/** Copies the output to the screen until it ends. It waits for the screen, so that much output does not fill memory. */
async function copyOutput(terminal: Terminal, screen: ShellScreen): Promise<void> {
  const reader = terminal.output.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    await new Promise<void>((resolve) => {
      screen.write(value, resolve);
    });
  }
}

function reasonOf(error: unknown): string {
  const { message, code } = describeError(error);
  if (code === 'BOX_NOT_FOUND') return 'The box is gone.';
  if (code === 'BOX_NOT_RUNNING') return 'The box does not run.';
  if (code === 'UNAVAILABLE') return 'The connection is lost.';
  if (code === 'CANCELED') return 'The terminal was closed.';
  return message;
}
