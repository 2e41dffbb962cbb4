// The tab `terminal` of a box: one or more terminals. Their screens are kept while the user looks at another view.
// The code of the terminal is a separate script, which is loaded when this tab is first shown.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Box } from '../../sdk/browser.ts';
import { useStore } from '../live/store.ts';
import type * as ShellsModule from '../terminal/shells.ts';
import { Button, EmptyNote, ErrorNote, LoadingNote } from './basics.tsx';

export function TerminalTab({ box }: { readonly box: Box }) {
  const [module, setModule] = useState<typeof ShellsModule | null>(null);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    import('../terminal/shells.ts').then(setModule, setError);
  }, []);
  if (error !== null) return <ErrorNote error={error} />;
  return module === null ? <LoadingNote what="the terminal" /> : <Shells key={box.id} box={box} module={module} />;
}

/** The shell that was shown last, by the id of the box. */
const lastShown = new Map<string, ShellsModule.Shell>();

function Shells({
  box,
  module: { shells, shellsMax, openShell },
}: {
  readonly box: Box;
  readonly module: typeof ShellsModule;
}) {
  const all = useStore(shells);
  const own = all.filter(({ boxId }) => boxId === box.id);
  const [shown, setShown] = useState<ShellsModule.Shell | null>(lastShown.get(box.id) ?? null);
  const current = own.find((shell) => shell === shown) ?? own.at(-1) ?? null;
  const bar = useRef<HTMLDivElement>(null);
  const isRunning = box.status === 'running';
  const open = (): void => {
    setShown(
      openShell(box.id, () => {
        bar.current?.querySelector('button')?.focus();
      }),
    );
  };
  useEffect(() => {
    if (current !== null) lastShown.set(box.id, current);
  }, [current]);
  useEffect(() => {
    if (own.length === 0 && isRunning) open();
  }, []);

  return (
    <section class="terminals" aria-label="Terminals">
      <div class="toolbar" ref={bar}>
        {own.map((shell) => (
          <span key={shell.number} class="shell-tab">
            <Button
              pressed={shell === current}
              onClick={() => {
                setShown(shell);
              }}
            >
              Shell {shell.number}
            </Button>
            <Button
              kind="quiet"
              label={`Close shell ${shell.number}`}
              onClick={() => {
                shell.close();
              }}
            >
              ✕
            </Button>
          </span>
        ))}
        <Button disabled={!isRunning || all.length >= shellsMax} onClick={open}>
          New shell
        </Button>
        <span class="grow" />
        <span class="hint">
          <kbd>F6</kbd> leaves the terminal
        </span>
      </div>
      {current === null ? (
        <EmptyNote title={isRunning ? 'No terminal' : 'The box does not run'}>
          <p>{isRunning ? 'Open a new shell.' : 'Start it to open a terminal in it.'}</p>
        </EmptyNote>
      ) : (
        <ShellScreen key={current.number} shell={current} isRunning={isRunning} />
      )}
    </section>
  );
}

function ShellScreen({ shell, isRunning }: { readonly shell: ShellsModule.Shell; readonly isRunning: boolean }) {
  const place = useRef<HTMLDivElement>(null);
  const state = useStore(shell.state);
  useLayoutEffect(() => (place.current === null ? undefined : shell.show(place.current)), [shell]);
  return (
    <div class="shell">
      <div ref={place} class="shell-place" />
      {state.kind === 'connecting' ? (
        <p class="shell-note" role="status">
          Connecting …
        </p>
      ) : null}
      {state.kind === 'ended' ? (
        <div class="shell-note" role="alert">
          <span>{state.reason}</span>
          <Button
            kind="primary"
            disabled={!isRunning}
            onClick={() => {
              shell.restart();
            }}
          >
            Start a new shell here
          </Button>
        </div>
      ) : null}
    </div>
  );
}
