// The frame of the dashboard: the head with the state of the connection, the current view, notices, and the list of
// keys. The address of the page decides which view is shown.
import { useState } from 'preact/hooks';
import { changes } from './live/changes.ts';
import { useKeys } from './live/keys.ts';
import { notices, removeNotice } from './live/notices.ts';
import { useStore } from './live/store.ts';
import { theme, toggleTheme } from './live/theme.ts';
import { BoxPage } from './pages/box-page.tsx';
import { BoxesPage } from './pages/boxes-page.tsx';
import { ExecPage } from './pages/exec-page.tsx';
import { Button, Dialog, ErrorNote } from './parts/basics.tsx';
import { hrefOf, route, type Route } from './router.ts';

export function App() {
  const [isHelping, setHelping] = useState(false);
  const current = useStore(route);
  const connection = useStore(changes.connection);
  useKeys({
    '?': () => {
      setHelping(true);
    },
  });
  return (
    <>
      <a class="skip" href="#main" onClick={skipToMain}>
        To the content
      </a>
      <header class="top">
        <a class="brand" href={hrefOf({ view: 'boxes' })}>
          BoxRun
        </a>
        <ConnectionState />
        <span class="grow" />
        <a class="button quiet" href="/docs">
          API
        </a>
        <Button
          kind="quiet"
          label="Keys"
          onClick={() => {
            setHelping(true);
          }}
        >
          ?
        </Button>
        <ThemeButton />
      </header>
      {connection === 'lost' ? (
        <p class="banner" role="alert">
          The server is away. This page shows the last known state, and updates itself when the server is back.
        </p>
      ) : null}
      {connection === 'refused' ? <Refused /> : <View route={current} />}
      <Notices />
      {isHelping ? (
        <KeysDialog
          onClose={() => {
            setHelping(false);
          }}
        />
      ) : null}
    </>
  );
}

function View({ route: current }: { readonly route: Route }) {
  if (current.view === 'box') return <BoxPage key={current.box} id={current.box} tab={current.tab} />;
  if (current.view === 'exec') return <ExecPage key={current.exec} boxId={current.box} execId={current.exec} />;
  return <BoxesPage />;
}

const connectionWords = { loading: 'connecting', live: 'live', lost: 'server away', refused: 'not allowed' } as const;

function ConnectionState() {
  const connection = useStore(changes.connection);
  return (
    <span class={`connection ${connection}`} role="status">
      {connectionWords[connection]}
    </span>
  );
}

/** Shown if the server needs a token and this browser has none. */
function Refused() {
  return (
    <main id="main">
      <h1>Not allowed</h1>
      <ErrorNote error={useStore(changes.failure)} />
      <p>The server needs a token. Run `boxrun ui` on the host of the server, and open the link that it prints.</p>
    </main>
  );
}

function ThemeButton() {
  const current = useStore(theme);
  const other = current === 'dark' ? 'light' : 'dark';
  return (
    <Button kind="quiet" label={`Use the ${other} theme`} onClick={toggleTheme}>
      {current === 'dark' ? '☀' : '☾'}
    </Button>
  );
}

function Notices() {
  const shown = useStore(notices);
  return (
    <div class="notices">
      <div role="status" aria-live="polite">
        {shown
          .filter(({ kind }) => kind === 'done')
          .map(({ id, text }) => (
            <p key={id} class="notice">
              {text}
            </p>
          ))}
      </div>
      <div role="alert">
        {shown
          .filter(({ kind }) => kind === 'error')
          .map(({ id, text }) => (
            <p key={id} class="notice error">
              {text}{' '}
              <Button
                kind="quiet"
                label="Dismiss"
                onClick={() => {
                  removeNotice(id);
                }}
              >
                ✕
              </Button>
            </p>
          ))}
      </div>
    </div>
  );
}

/** Only the text of the list. Each page and part handles its own keys. */
const keys: readonly (readonly [string, string])[] = [
  ['/', 'search'],
  ['c', 'create a box'],
  ['↑ ↓', 'go to the previous or next box'],
  ['Enter', 'open the box; in a search of output: go to the next match (Shift Enter: to the previous match)'],
  ['x', 'select the box'],
  ['Esc', 'clear the selection; go back; close'],
  ['F6', 'leave a terminal'],
  ['?', 'show this list'],
];

function KeysDialog({ onClose }: { readonly onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl class="keys">
        {keys.map(([key, meaning]) => (
          <div key={key}>
            <dt>
              {key.split(' ').map((each) => (
                <kbd key={each}>{each}</kbd>
              ))}
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

/** Moves the focus without a link to `#main`, because the part of the address after `#` names the view. */
function skipToMain(event: Event): void {
  event.preventDefault();
  const main = document.getElementById('main');
  main?.setAttribute('tabindex', '-1');
  main?.focus();
}
