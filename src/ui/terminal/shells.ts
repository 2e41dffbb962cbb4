// Shells in boxes, each with its screen. A shell stays open while the user looks at another view, until the user closes
// it or leaves the page. If a shell ends or its connection is lost, its screen says so, and the user can start a new
// shell on it. This file is loaded only for the first terminal, because xterm.js is large.
import { FitAddon } from '@xterm/addon-fit';
import { Terminal as Screen, type ITheme } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { BoxRunError, type Terminal } from '../../sdk/browser.ts';
import { boxrun, describeError } from '../live/client.ts';
import { createStore, type Store } from '../live/store.ts';
import { theme, themeColour as colour } from '../live/theme.ts';
import { makeDocumentStrict } from './strict-document.ts';

export type ShellState =
  { readonly kind: 'connecting' } | { readonly kind: 'open' } | { readonly kind: 'ended'; readonly reason: string };

export interface Shell {
  readonly number: number;
  readonly boxId: string;
  readonly state: Store<ShellState>;
  /** Shows its screen in `parent`. Returns a function that hides it again. */
  show(parent: HTMLElement): () => void;
  /** Starts a new shell on the same screen. */
  restart(): void;
  close(): void;
}

export const shells: Store<readonly Shell[]> = createStore<readonly Shell[]>([]);
/** A bound, because each shell holds a connection and a screen with its history. */
export const shellsMax = 16;
/** The shells to try, in this order. */
const programs = ['/bin/bash', '/bin/sh'] as const;
/**
 * Ids of boxes without bash. The next shell there starts with sh at once. So the first keys of the user do not get lost
 * in an attempt to start bash.
 */
const withoutBash = new Set<string>();
/** Exit code 127 within this time means that the shell is missing. A user could not type `exit 127` so fast. */
const missingMs = 1_000;
let nextNumber = 1;

/** Opens a shell in a box. @param onLeave called when the user leaves the terminal with F6 */
export function openShell(boxId: string, onLeave: () => void): Shell {
  makeDocumentStrict();
  const screen = new Screen({
    fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
    fontSize: 14,
    scrollback: 5_000,
    cursorBlink: true,
    screenReaderMode: false,
    theme: screenTheme(),
  });
  const fit = new FitAddon();
  screen.loadAddon(fit);
  screen.attachCustomKeyEventHandler((event) => passesKey(event, screen, onLeave));
  const state = createStore<ShellState>({ kind: 'connecting' });
  const host = document.createElement('div');
  host.className = 'terminal-host';
  let connection: Terminal | null = null;
  screen.onData((data) => {
    // If the connection fails, `exited` rejects with the error.
    connection?.write(data).catch(() => undefined);
  });
  screen.onResize(({ cols, rows }) => {
    connection?.resize(cols, rows);
  });
  const closeTheme = theme.subscribe(() => {
    screen.options.theme = screenTheme();
  });

  function start(): void {
    state.set({ kind: 'connecting' });
    const ended = runShell(boxId, screen, (opened) => {
      connection = opened;
      opened.resize(screen.cols, screen.rows);
      state.set({ kind: 'open' });
      screen.focus();
    });
    void ended.then((reason) => {
      connection = null;
      state.set({ kind: 'ended', reason });
    });
  }

  const shell: Shell = {
    number: nextNumber++,
    boxId,
    state,
    show(parent) {
      parent.append(host);
      const isNew = screen.element === undefined;
      if (isNew) screen.open(host);
      const observer = new ResizeObserver(() => {
        fit.fit();
      });
      observer.observe(host);
      fit.fit();
      screen.focus();
      if (isNew) start();
      return () => {
        observer.disconnect();
        host.remove();
      };
    },
    restart() {
      screen.write('\r\n');
      start();
    },
    close() {
      shells.set(shells.get().filter((each) => each !== shell));
      closeTheme();
      connection?.close();
      screen.dispose();
      host.remove();
    },
  };
  shells.set([...shells.get(), shell]);
  return shell;
}

/** Runs the first shell of `programs` that the box has, until it ends. Returns the reason of the end, for the user. */
async function runShell(boxId: string, screen: Screen, onOpen: (terminal: Terminal) => void): Promise<string> {
  for (const [at, shell] of programs.entries()) {
    if (at === 0 && withoutBash.has(boxId)) continue;
    const isLast = at === programs.length - 1;
    try {
      const terminal = await boxrun.attach(boxId, { shell, cols: screen.cols, rows: screen.rows });
      const openedAt = performance.now();
      onOpen(terminal);
      await copyOutput(terminal, screen);
      const { exitCode, error } = await terminal.exited;
      // The box does not have this shell. The screen is cleared before the next one is tried.
      const isMissing = exitCode === 127 && performance.now() - openedAt < missingMs;
      if (isMissing && !isLast) {
        withoutBash.add(boxId);
        screen.reset();
      } else return error ?? `The shell ended with exit code ${exitCode ?? 'none'}.`;
    } catch (error) {
      const isMissing = error instanceof BoxRunError && error.code === 'RUNTIME_ERROR';
      if (!isMissing || isLast) return reasonOf(error);
    }
  }
  return 'There is no shell in this box.';
}

/** Copies the output to the screen until it ends. It waits for the screen, so that much output does not fill memory. */
async function copyOutput(terminal: Terminal, screen: Screen): Promise<void> {
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

/**
 * False if the terminal must not handle the key. With selected text, Ctrl+C copies; Ctrl+V pastes. F6 leaves the
 * terminal, because Tab belongs to the shell.
 */
function passesKey(event: KeyboardEvent, screen: Screen, onLeave: () => void): boolean {
  if (event.type !== 'keydown') return true;
  if (event.key === 'F6') {
    event.preventDefault();
    onLeave();
    return false;
  }
  const isControl = (event.ctrlKey || event.metaKey) && !event.altKey;
  if (isControl && event.key.toLowerCase() === 'v') return false;
  return !(isControl && event.key.toLowerCase() === 'c' && screen.hasSelection());
}

function screenTheme(): ITheme {
  const names = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'] as const;
  const ansi = names.flatMap((name, at) => [
    [name, colour(`--ansi-${at}`)],
    [`bright${name[0]?.toUpperCase() ?? ''}${name.slice(1)}`, colour(`--ansi-${at + 8}`)],
  ]);
  const own = {
    background: colour('--terminal'),
    foreground: colour('--text'),
    cursor: colour('--text'),
    selectionBackground: theme.get() === 'dark' ? '#3b5a8a' : '#b4d0fb',
  };
  return { ...own, ...(Object.fromEntries(ansi) as ITheme) };
}
