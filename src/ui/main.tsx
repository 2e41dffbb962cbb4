// The first code of the dashboard: it starts the streams from the server and shows the page. All data comes from the
// server that served the page. Data is always shown as text, never as HTML.
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

const pageClosed = new AbortController();
addEventListener('pagehide', (event) => {
  // A persisted page may come back with the Back button, so its streams stay.
  if (!event.persisted) pageClosed.abort();
});

applyTheme();
followAddress();
void changes.follow(pageClosed.signal);
void usage.follow(pageClosed.signal);
render(<App />, document.body);
