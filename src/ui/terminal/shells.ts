// Shells in boxes, each with its screen. A shell stays open while the user looks at another view, until the user closes
// it or leaves the page. If a shell ends or its connection is lost, its screen says so, and the user can start a new
// shell on it. This file is loaded only for the first terminal, because xterm.js is large.
import { FitAddon } from '@xterm/addon-fit';
import { Terminal as Screen, type ITheme } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { AttachOptions, Terminal } from '../../sdk/browser.ts';
import { boxrun } from '../live/client.ts';
import { createStore, type Store } from '../live/store.ts';
import { theme, themeColour as colour } from '../live/theme.ts';
import { runShell } from './run-shell.ts';
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
let nextNumber = 1;

/**
 * Makes a shell with its screen. It starts in the box when it is first shown.
 * @param onLeave called when the user leaves the terminal with F6
 */
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
  const closing = new AbortController();
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
    const attach = async (options: AttachOptions) => boxrun.attach(boxId, options);
    const onOpen = (opened: Terminal) => {
      connection = opened;
      opened.resize(screen.cols, screen.rows);
      state.set({ kind: 'open' });
      screen.focus();
    };
    const ended = runShell(attach, screen, onOpen, closing.signal);
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
      closing.abort();
      screen.dispose();
      host.remove();
    },
  };
  shells.set([...shells.get(), shell]);
  return shell;
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
