// The dashboard: begins to follow the server, and shows what it says. Loaded by index.html; served by the gateway at
// /ui. Everything comes from the server that the page came from, and everything that is shown is text.
import { render } from 'preact';
import { App } from './app.tsx';
import { changes } from './live/changes.ts';
import { applyTheme } from './live/theme.ts';
import { usage } from './live/usage.ts';
import { followAddress } from './router.ts';
import './style/base.css';
import './style/boxes.css';
import './style/box.css';
import './style/output.css';

const left = new AbortController();
addEventListener('pagehide', (event) => {
  if (!event.persisted) left.abort();
});

applyTheme();
followAddress();
void changes.follow(left.signal);
void usage.follow(left.signal);
render(<App />, document.body);
