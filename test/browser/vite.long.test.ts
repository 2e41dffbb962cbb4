// Runs Vite's development server in a box without a network, opens it in a real browser at the URL of its port, and
// changes a module: the browser must get the change without loading the page anew. Node and Vite come into the box as
// read-only volumes of this host.
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { launchBrowser } from './chromium.ts';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const nodeModules = join(import.meta.dirname, '../../node_modules');
const files = {
  '/app/package.json': '{"type": "module"}',
  '/app/serve.js': `
    import { createServer } from 'vite';
    const server = await createServer({ configFile: false, cacheDir: '/tmp/vite', server: { port: 5173 } });
    await server.listen();`,
  '/app/index.html':
    '<!doctype html><link rel=icon href=data:,><h1></h1><input><script type="module" src="/main.js"></script>',
  '/app/main.js': `
    import { text } from './text.js';
    const show = (what) => { document.querySelector('h1').textContent = what; };
    show(text);
    import.meta.hot.accept('./text.js', (changed) => show(changed.text));`,
  '/app/text.js': "export const text = 'first';",
};
const modules = Array.from({ length: 50 }, (_, at) => `m${at}`);
let server: TestServer;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer(), launchBrowser()]);
});
afterAll(async () => {
  await browser.close();
  await server.close();
});

it('a development server in a box shows changes in the browser at once, without a reload', async () => {
  const volume = (path: string, at: string) => ({ host_path: path, guest_path: at, readonly: true });
  const box = await server.client.create({
    image: 'base',
    cpu: 2,
    memory_mb: 1024,
    volumes: [
      volume('/usr', '/usr'),
      volume('/usr/lib', '/lib'),
      volume('/usr/lib64', '/lib64'),
      volume(nodeModules, '/app/node_modules'),
    ],
  });
  const write = (path: string, text: string) => server.client.upload(box.id, new TextEncoder().encode(text), path);
  for (const [path, text] of Object.entries(files)) await write(path, text);
  for (const name of modules) await write(`/app/${name}.js`, `export const ${name} = '${name}';`);
  await write('/app/all.js', modules.map((name) => `import './${name}.js';`).join('\n'));
  const command = ['/usr/bin/node', 'serve.js'];
  const exec = await server.client.startExec(box.id, { cmd: command, workdir: '/app', env: { PATH: '/usr/bin:/bin' } });
  await box.ports.wait(5173, { timeoutS: 40 }).catch(async (error: unknown) => {
    const { text } = await server.call({ path: `/v1/boxes/${box.id}/exec/${exec.id}/events?follow=false` });
    throw new Error(`Vite does not listen: ${text}`, { cause: error });
  });

  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on(
    'console',
    (message) => message.type() === 'error' && complaints.push(`${message.text()} ${message.location().url}`),
  );
  await page.goto((await box.ports.link(5173)).url);
  await page.getByRole('heading', { name: 'first' }).waitFor();
  await page.getByRole('textbox').fill('typed by the user');
  await eventually('the browser is connected', async () => (await openConnections()) > 0);

  await write('/app/text.js', "export const text = 'second';");
  await page.getByRole('heading', { name: 'second' }).waitFor();
  expect(await page.getByRole('textbox').inputValue()).toBe('typed by the user');

  const startedAt = performance.now();
  await page.evaluate("import('/all.js')"); // As text, because Vitest rewrites imports.
  console.log(`${modules.length} modules in ${(performance.now() - startedAt).toFixed(0)} ms`);
  expect(complaints).toEqual([]);
}, 180_000);

/** The WebSocket of Vite stays open. */
async function openConnections(): Promise<number> {
  const { text } = await server.call({ path: '/metrics' });
  return Number(/^boxrun_port_connections_open\{?[^ ]* (\d+)/m.exec(text)?.[1] ?? 0);
}
