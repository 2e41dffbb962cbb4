// Tests the EventSource of a real browser on streams of a real server, without the SDK: silent commands, changes, and a
// lost connection that the browser makes again. The server sends comments whenever a stream is silent for a moment.
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { launchBrowser } from './chromium.ts';

interface Message {
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

let server: TestServer;
let browser: Browser;
let page: Page;
let box: string;
beforeAll(async () => {
  [server, browser] = await Promise.all([startServer({ env: { BOXRUN_SSE_HEARTBEAT_MS: '25' } }), launchBrowser()]);
  page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.port}/ui`);
  box = (await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 })).id;
});
afterAll(async () => {
  await browser.close();
  await server.close();
});

/** Opens an EventSource in the page and closes it at the event `last`. messages() returns the events so far. */
async function follow(path: string, last: string): Promise<{ messages(): Promise<Message[]> }> {
  const handle = await page.evaluateHandle(
    ([url = '', end = '']) => {
      const source = new EventSource(url);
      const messages: Message[] = [];
      for (const kind of ['message', 'log', 'exit', 'ready', 'reset', 'exec.started', 'exec.finished']) {
        source.addEventListener(kind, ({ lastEventId, type, data }: MessageEvent) => {
          messages.push({ id: lastEventId, event: type, data: data as string });
          if (type === end) source.close();
        });
      }
      return messages;
    },
    [path, last],
  );
  return {
    messages: () => handle.jsonValue(),
  };
}

/** Waits until another reader of the same stream has received five comments. */
async function silence(path: string): Promise<void> {
  let text = '';
  for await (const piece of (await fetch(`http://127.0.0.1:${server.port}${path}`)).body ?? []) {
    text += Buffer.from(piece).toString();
    if (text.split(': alive\n').length > 5) return;
  }
  throw new Error('the stream has ended');
}

it('an EventSource follows a silent command and gets each event once, even if a gateway is killed', async () => {
  const text = 'a\u2028b\u0085c\r\nd\n\ndata: e\n';
  const octal = [...Buffer.from(text)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
  const script = `printf '${octal}'; while [ ! -e /root/go ]; do sleep 0.05; done; yes line | head -n 100000`;
  const exec = await server.client.startExec(box, ['sh', '-c', script]);
  const path = `/v1/boxes/${box}/exec/${exec.id}/events`;
  const source = await follow(path, 'exit');
  await eventually('the first event has come', async () => (await source.messages()).length === 1);
  await silence(path);
  const gateway = await processOf(server.stateDir, 'gateway');
  process.kill(gateway.pid, 'SIGKILL');
  const health = `http://127.0.0.1:${server.port}/healthz`;
  await eventually('another gateway answers', async () => (await fetch(health).catch(() => null))?.ok, 30_000);
  // It listens on the socket a moment later than on the port.
  await eventually('it answers on the socket', () => server.client.info().catch(() => null), 30_000);
  await silence(path);
  await server.client.exec(box, ['touch', '/root/go']);
  await eventually('the exit has come', async () => (await source.messages()).at(-1)?.event === 'exit', 30_000);
  const messages = await source.messages();
  expect(messages.map(({ id }) => id)).toEqual(messages.map((_, index) => String(index)));
  const logs = messages.slice(0, -1);
  expect(new Set(logs.map(({ event }) => event))).toEqual(new Set(['log']));
  const output = logs.map(({ data }) => (JSON.parse(data) as { data: string }).data).join('');
  expect(output).toBe(text + 'line\n'.repeat(100_000));
});

it('an EventSource follows the changes of commands between long silences', async () => {
  const source = await follow('/v1/events', 'exec.finished');
  await eventually('it is ready', async () => (await source.messages()).length === 1);
  await silence('/v1/events');
  const exec = await server.client.startExec(box, ['sleep', '0.2']);
  await eventually('the end is told', async () => (await source.messages()).at(-1)?.event === 'exec.finished');
  const messages = await source.messages();
  expect(messages.map(({ event }) => event)).toEqual(['ready', 'exec.started', 'exec.finished']);
  const execs = messages.slice(1).map(({ data }) => (JSON.parse(data) as { exec: { id: string } }).exec);
  expect(execs).toMatchObject([{ id: exec.id }, { id: exec.id }]);
});
