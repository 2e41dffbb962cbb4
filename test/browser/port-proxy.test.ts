// Tests in a real browser that a page of a box works at the URL of its port: scripts, WebSockets, and links of the
// dashboard. And that such a page, or a page of another origin, has no right on the API or on another port.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { launchBrowser, openDashboard } from './chromium.ts';
import type { Box } from '../../src/sdk/index.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let browser: Browser;
let context: BrowserContext;
let page: Page;
let box: Box;

/** The program in the box: a page with a script at `/`, and WebSockets that send back what comes. */
const site = `
read -r method path version
while read -r line; do
  line=$(echo "$line" | tr -d '\\r')
  [ -n "$line" ] || break
  case $line in [Ss]ec-[Ww]eb[Ss]ocket-[Kk]ey:*) key=\${line#*: } ;; esac
done
answer() { printf 'HTTP/1.1 200 OK\\r\\nContent-Type: %s\\r\\nContent-Length: %s\\r\\n\\r\\n%s' "$1" "\${#2}" "$2"; }
if [ -n "$key" ]; then
  accept=$(printf '%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11' "$key" | sha1sum | cut -c1-40 | xxd -r -p | base64)
  printf 'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: %s\\r\\n\\r\\n' "$accept"
  printf '\\201\\005hello'
  cat >/dev/null
fi
case $path in
  /script.js) answer text/javascript 'document.title = "the script ran"' ;;
  *) answer text/html '<!doctype html><link rel=icon href=data:,><script src=/script.js></script><h1>In the box</h1>' ;;
esac
`;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer(), launchBrowser()]);
  box = await server.client.create({ image: 'base', name: 'site', cpu: 1, memory_mb: 128 });
  await server.client.startExec(box.id, { cmd: ['nc', '-ll', '-p', '80', '-e', 'sh', '-c', site] });
  await server.client.ports(box.id).wait(80);
  context = await browser.newContext();
  page = await context.newPage();
});
afterAll(async () => {
  await browser.close();
  await server.close();
});

/** What a page sees of a request that it sends, as text. */
const tried = (
  where: Page,
  url: string,
  options: Pick<RequestInit, 'method' | 'mode' | 'credentials'> = {},
): Promise<string> =>
  where.evaluate(
    ([target, init]) =>
      fetch(target, init).then(
        async (answer) => `${answer.status} ${await answer.text()}`,
        (error: unknown) => `refused: ${String(error)}`,
      ),
    [url, options] as const,
  );

const triedSocket = (where: Page, url: string): Promise<string> =>
  where.evaluate(
    (target) =>
      new Promise<string>((resolve) => {
        const socket = new WebSocket(target);
        socket.onmessage = ({ data }) => {
          resolve(String(data));
        };
        socket.onclose = () => {
          resolve('closed');
        };
      }),
    url,
  );

it('a link opens the page of a box, whose script and WebSocket work', async () => {
  const { url } = await server.client.ports(box.id).link(80);
  await page.goto(url);
  await page.getByRole('heading', { name: 'In the box' }).waitFor();
  expect(new URL(page.url()).pathname).toBe('/');
  expect(await page.title()).toBe('the script ran');
  expect(await page.evaluate(() => document.cookie)).toBe('');
  expect(await triedSocket(page, page.url().replace('http', 'ws'))).toBe('hello');
  await page.reload();
  expect(await page.title()).toBe('the script ran');
  const second = await page.goto(url);
  expect(second?.status()).toBe(403);
  await page.goBack();
});

it('the page of a box can neither read answers of the API, nor command it', async () => {
  for (const api of [`http://127.0.0.1:${server.port}`, `http://localhost:${server.port}`]) {
    expect(await tried(page, `${api}/v1/boxes`)).toMatch(/^refused/);
    expect(await tried(page, `${api}/v1/boxes`, { credentials: 'include' })).toMatch(/^refused/);
    await tried(page, `${api}/v1/boxes/site:stop`, { method: 'POST', mode: 'no-cors' });
    await tried(page, `${api}/v1/boxes/site/ports/80/link`, { method: 'POST', mode: 'no-cors' });
    expect(await triedSocket(page, `${api.replace('http', 'ws')}/v1/boxes/site/attach`)).toBe('closed');
    expect(await triedSocket(page, `${api.replace('http', 'ws')}/v1/boxes/site/ports/80`)).toBe('closed');
  }
  expect((await server.client.getBox('site')).status).toBe('running');
});

it('a page of another origin cannot use the port, although this browser has been let in', async () => {
  const at = page.url();
  const foreign = createServer((_request, response) => response.end('<!doctype html><h1>Foreign</h1>'));
  await new Promise<void>((resolve) => foreign.listen(0, '127.0.0.1', resolve));
  const other = await context.newPage();
  await other.goto(`http://localhost:${(foreign.address() as AddressInfo).port}`);
  expect(await tried(other, at)).toMatch(/^refused/);
  expect(await tried(other, at, { credentials: 'include', mode: 'no-cors' })).toBe('0 ');
  expect(await triedSocket(other, at.replace('http', 'ws'))).toBe('closed');
  const framed = await other.evaluate((url) => {
    const frame = document.createElement('iframe');
    frame.src = url;
    document.body.append(frame);
    return new Promise<string>((resolve) => (frame.onload = () => resolve('loaded')));
  }, at);
  expect(framed).toBe('loaded');
  expect(await other.frames()[1]?.evaluate(() => document.body.textContent)).not.toContain('In the box');
  // A visit is allowed: the page gets the window for itself.
  await other.evaluate((url) => {
    location.href = url;
  }, at);
  await other.getByRole('heading', { name: 'In the box' }).waitFor();
  await other.close();
  foreign.close();
});

it('a browser that has no link is not let in, even without a token', async () => {
  const stranger = await browser.newContext();
  const other = await stranger.newPage();
  const answer = await other.goto(page.url());
  expect(answer?.status()).toBe(401);
  await other.getByText('boxrun url BOX PORT').waitFor();
  await stranger.close();
});

it('the dashboard lists the ports of a box, and opens one', async () => {
  const dashboard = await openDashboard(browser, server);
  await dashboard.go(`/boxes/${box.id}/ports`);
  const row = dashboard.page.getByRole('row').filter({ hasText: '80' });
  const opened = dashboard.context.waitForEvent('page');
  await row.getByRole('button', { name: 'Open port 80' }).click();
  const window = await opened;
  await window.getByRole('heading', { name: 'In the box' }).waitFor();
  expect(await window.evaluate(() => globalThis.opener as unknown)).toBeNull();
  expect(await dashboard.axeProblems()).toEqual([]);
  expect(dashboard.complaints).toEqual([]);
  await dashboard.close();
});
