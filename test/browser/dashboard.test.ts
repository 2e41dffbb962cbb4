// Tests the dashboard in a real browser, with a real server and real boxes, by the texts on the page. axe-core must
// find no serious problem, and the console must stay empty. The tests share one page, and most of them share one box,
// so their order matters.
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { expectNoComplaints, launchBrowser, openDashboard, type Dashboard } from './chromium.ts';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let browser: Browser;
let dashboard: Dashboard;
beforeAll(async () => {
  [server, browser] = await Promise.all([startServer(), launchBrowser()]);
  dashboard = await openDashboard(browser, server);
});
afterAll(async () => {
  await browser.close();
  await server.close();
});

const small = { image: 'base', cpu: 1, memory_mb: 64 } as const;
const names = () => dashboard.page.locator('tbody [data-row]').allTextContents();
const row = (name: string) =>
  dashboard.page.getByRole('row').filter({ has: dashboard.page.getByRole('link', { name, exact: true }) });

it('the dashboard is compressed, has a policy without inline code, and lets browsers cache its assets', async () => {
  const page = await server.call({ path: '/ui', headers: { 'accept-encoding': 'gzip' } });
  expect(page.headers['content-encoding']).toBe('gzip');
  const policy = String(page.headers['content-security-policy']);
  expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
  expect(policy).not.toContain('unsafe');
  expect((await server.call({ path: '/ui', headers: { 'if-none-match': String(page.headers.etag) } })).status).toBe(
    304,
  );
  const plain = await server.call({ path: '/ui' });
  expect(plain.text).not.toMatch(/<style|style=|<script(?![^>]* src=)|\son\w+=/i);
  const [asset = ''] = /\/ui\/assets\/[\w-]+\.js/.exec(plain.text) ?? [];
  const script = await server.call({ path: asset });
  expect(script.headers['cache-control']).toContain('immutable');
  for (const path of ['/ui/assets/nothing.js', '/ui/assets/..%2findex.html', '/ui/assets/..%2f..%2fcli.js']) {
    expect((await server.call({ path })).status, path).toBe(404);
  }
});

it('the dashboard loads at most 200 kB with its charts, and only from its own server', async () => {
  const own = await openDashboard(browser, server);
  await own.page.locator('.chart').first().waitFor();
  const loaded = await own.page.evaluate(() =>
    [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
      .map((entry) => entry as PerformanceResourceTiming)
      .filter(({ name }) => !name.includes('/v1/'))
      .map(({ name, transferSize }) => ({ name, transferSize })),
  );
  const bytes = loaded.reduce((sum, { transferSize }) => sum + transferSize, 0);
  console.log(`first load: ${(bytes / 1000).toFixed(1)} kB in ${loaded.length} files`);
  expect(loaded.length).toBeGreaterThan(3);
  expect(bytes).toBeLessThan(200_000);
  for (const { name } of loaded) expect(name).toContain(`http://127.0.0.1:${server.port}/ui`);
  await own.close();
});

it('the list says that there are no boxes, and the form creates one or shows a refusal with its hint', async () => {
  const { page } = dashboard;
  await page.getByText('No boxes yet').waitFor();
  await page.keyboard.press('c');
  const dialog = page.getByRole('dialog', { name: 'Create a box' });
  await dialog.locator('#known-images option[value="alpine"]').waitFor({ state: 'attached' });
  expect(await dialog.locator('#known-images option[value="base"]').count()).toBe(1);
  await dialog.getByLabel('Name').fill('<img src=x onerror=alert(1)>');
  await dialog.getByLabel('CPUs').fill('1');
  await dialog.getByLabel('Memory').fill('64');
  await dialog.getByLabel('CPU limit').fill('0.5');
  await dialog.getByLabel('Grace at a stop').fill('2');
  await dialog.getByText('Environment, volumes, labels').click();
  await dialog.getByLabel('Labels').fill('team=<img src=x onerror=alert(1)>\nstage=test');
  await dialog.getByRole('button', { name: 'Create', exact: true }).click();
  await dialog.getByRole('alert').getByText('VALIDATION_ERROR').waitFor();
  await dialog.getByLabel('Name').fill('first');
  await dialog.getByLabel('CPUs').fill('200');
  await dialog.getByRole('button', { name: 'Create', exact: true }).click();
  await dialog.getByRole('alert').getByText('RESOURCE_EXCEEDED').waitFor();
  await dialog.getByLabel('CPUs').fill('1');
  await dialog.getByRole('button', { name: 'Create', exact: true }).click();
  await page.getByRole('heading', { name: 'first', level: 1 }).waitFor();
  expect(await server.client.getBox('first')).toMatchObject({
    labels: { team: '<img src=x onerror=alert(1)>', stage: 'test' },
    cpu_limit: 0.5,
    stop_grace_s: 2,
  });
  await page.getByRole('link', { name: 'details' }).click();
  await page.getByText('1, at most 0.5').waitFor();
  await page.getByText('2 s', { exact: true }).waitFor();
  await page.getByText('team=<img src=x onerror=alert(1)>').waitFor();
  expect(await page.locator('img').count()).toBe(0);
});

it('a command shows its output as it grows, in its colours, and with stderr marked', async () => {
  const { page } = dashboard;
  await page.getByRole('link', { name: 'commands' }).click();
  await page
    .getByLabel('Command', { exact: true })
    .fill(
      `printf '\\033[31mred\\033[0m plain\\n'; echo '<img src=x onerror=alert(1)>' >&2; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo later; exit 3`,
    );
  await page.keyboard.press('Enter');
  const output = page.getByRole('log');
  await output.getByText('red', { exact: true }).waitFor();
  expect(await output.locator('.fg-1').textContent()).toBe('red');
  await output.locator('.line.stderr').getByText('<img src=x onerror=alert(1)>').waitFor();
  expect(await page.locator('img').count()).toBe(0);
  expect(await output.getByText('later').count()).toBe(0);
  await page.getByText('running', { exact: true }).waitFor();
  await server.client.exec('first', ['touch', '/tmp/go']);
  await output.getByText('later').waitFor();
  await page.getByText('exit code 3').waitFor();
  await page.getByText('failed', { exact: true }).waitFor();
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download' }).click();
  const stream = await (await download).createReadStream();
  const text = await new Response(stream as unknown as BodyInit).text();
  expect(text).toContain('\u001b[31mred\u001b[0m plain\n');
  expect(text).toContain('later\n');
  await page.keyboard.press('Escape');
  await page.getByRole('table', { name: 'Commands' }).waitFor();
  expect(await dashboard.axeProblems()).toEqual([]);
});

it('the processes of a box are listed with their commands, and can be ended', async () => {
  const { page } = dashboard;
  const { id } = await server.client.getBox('first');
  const exec = await server.client.startExec(id, { cmd: ['sh', '-c', 'sleep 4321; echo "ended with $?"'] });
  await page.goto(`${page.url().split('#')[0]}#/boxes/${id}/processes`);
  const row = page.getByRole('row').filter({ has: page.getByRole('link', { name: 'sleep 4321', exact: true }) });
  await row.waitFor();
  expect(await row.getByRole('link').getAttribute('href')).toBe(`#/boxes/${id}/exec/${exec.id}`);
  await row.getByRole('button', { name: 'End' }).click();
  await row.waitFor({ state: 'detached' });
  expect((await server.client.getExec(id, exec.id, { waitS: 10 })).status).toBe('succeeded');
  await page.goto(`${page.url().split('#')[0]}#/boxes/${id}/commands`);
});

it('a command can be canceled', async () => {
  const { page } = dashboard;
  const exec = await server.client.startExec('first', ['sleep', '1000']);
  await page.getByRole('button', { name: 'Cancel sleep 1000' }).click();
  await eventually('it is canceled', async () => (await server.client.getExec('first', exec.id)).status === 'canceled');
  await page.getByRole('row').filter({ hasText: 'sleep 1000' }).getByText('canceled').waitFor();
});

it('terminals can be opened, typed into, resized, and restarted when their shell has ended', async () => {
  const { page } = dashboard;
  await page.getByRole('link', { name: 'terminal' }).click();
  const screen = page.locator('.xterm-rows');
  const shows = (text: string | RegExp) => screen.getByText(text).first().waitFor();
  await shows(/[#$] /);
  await page.keyboard.type('echo $((6*7))\n');
  await shows(/^42/);
  await page.keyboard.type(
    'set -- $(stty size); was=$2; echo wid""e; while [ $2 = $was ]; do set -- $(stty size); done; echo nar""rower: $((was > $2))\n',
  );
  await shows(/^wide/);
  await page.setViewportSize({ width: 700, height: 800 });
  await shows(/^narrower: 1/);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByRole('button', { name: 'New shell' }).click();
  await page.getByRole('button', { name: 'Shell 2', exact: true }).waitFor();
  await shows(/[#$] /);
  await page.locator('.terminal-host').click();
  await page.keyboard.type('exit 5\n');
  await page.getByText('The shell ended with exit code 5.').waitFor();
  await page.getByRole('button', { name: 'Start a new shell here' }).click();
  await page.getByText('The shell ended').waitFor({ state: 'detached' });
  await page.getByText('Connecting').waitFor({ state: 'detached' });
  await shows(/[#$] /);
  await page.locator('.terminal-host').click();
  await page.keyboard.type('printf "\\033[38;2;10;20;30mtrue colour\\033[0m\\n"\n');
  await eventually(
    'colours come through',
    async () => (await screen.locator('span[style*="rgb(10, 20, 30)"]').count()) > 0,
  );
  await page.keyboard.press('F6');
  expect(await page.evaluate(() => document.activeElement?.closest('.terminal-host') === null)).toBe(true);
  expect(await dashboard.axeProblems()).toEqual([]);
  await dashboard.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.evaluate(() => navigator.clipboard.writeText('echo pasted-$((20+3))'));
  await page.locator('.terminal-host').click();
  await page.keyboard.press('Control+v');
  await page.keyboard.press('Enter');
  await shows(/^pasted-23/);
  await screen
    .getByText(/^pasted-23/)
    .first()
    .dblclick({ force: true });
  await page.keyboard.press('Control+c');
  await eventually(
    'the word is copied',
    async () => (await page.evaluate(() => navigator.clipboard.readText())) === 'pasted-23',
  );
  await page.getByRole('button', { name: 'Shell 1', exact: true }).click();
  await shows(/narrower/); // Only this shell has this word. Earlier lines may have scrolled away.
});

it('files are uploaded by choosing and by dropping, and can be downloaded', async () => {
  const { page } = dashboard;
  await page.getByRole('link', { name: 'files' }).click();
  await page.getByLabel('Directory in the box').fill('/root/in');
  await page
    .getByLabel('Files', { exact: true })
    .setInputFiles({ name: 'one.txt', mimeType: 'text/plain', buffer: Buffer.from('chosen\n') });
  await page.getByRole('listitem').filter({ hasText: 'one.txt' }).getByText('done').waitFor();
  await page.evaluate(() => {
    const data = new DataTransfer();
    data.items.add(new File(['dropped\n'], 'two.txt'));
    document
      .querySelector('.drop')
      ?.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
  });
  await page.getByRole('listitem').filter({ hasText: 'two.txt' }).getByText('done').waitFor();
  expect((await server.client.exec('first', ['cat', '/root/in/one.txt', '/root/in/two.txt'])).stdout).toBe(
    'chosen\ndropped\n',
  );
  await page.getByLabel('Path in the box').fill('/root/in/two.txt');
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download' }).click();
  const file = await download;
  expect(file.suggestedFilename()).toBe('two.txt');
  expect(await new Response((await file.createReadStream()) as unknown as BodyInit).text()).toBe('dropped\n');
  await page.getByLabel('Path in the box').fill('/nothing/there');
  await page.getByRole('button', { name: 'Download' }).click();
  await page.getByRole('listitem').filter({ hasText: '/nothing/there' }).getByText('failed').waitFor();
  expect(await dashboard.axeProblems()).toEqual([]);
});

it('the directory is listed and follows the box; a click opens, downloads or removes', async () => {
  const { page } = dashboard;
  const files = page.getByRole('table', { name: 'Files in' });
  await files.getByRole('button', { name: 'one.txt' }).waitFor();
  await server.client.exec('first', ['sh', '-c', 'mkdir /root/in/sub; echo deep >/root/in/sub/deep.txt']);
  await files.getByRole('button', { name: 'sub/' }).click();
  const download = page.waitForEvent('download');
  await files.getByRole('button', { name: 'deep.txt' }).click();
  expect(await new Response((await (await download).createReadStream()) as unknown as BodyInit).text()).toBe('deep\n');
  expect(await page.getByLabel('Directory in the box').inputValue()).toBe('/root/in/sub');
  await files.getByRole('button', { name: 'Up to /root/in' }).click();
  await files.getByRole('row', { name: /^sub/ }).getByRole('button', { name: 'Remove' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await files.getByRole('button', { name: 'sub/' }).waitFor({ state: 'detached' });
  expect((await server.client.exec('first', ['ls', '/root/in'])).stdout).toBe('one.txt\ntwo.txt\n');
  expect(await dashboard.axeProblems()).toEqual([]);
});

it('a box can be stopped and started, and its page says when it was removed', async () => {
  const { page } = dashboard;
  const head = page.locator('.page-head');
  for (const [button, status] of [
    ['Stop', 'stopped'],
    ['Start', 'running'],
  ] as const) {
    await head.getByRole('button', { name: button }).click();
    await page
      .getByRole('dialog')
      .getByRole('button', { name: `${button} 1 box` })
      .click();
    await head.getByText(status, { exact: true }).waitFor();
    expect((await server.client.getBox('first')).status).toBe(status);
  }
  await server.client.removeBox('first', { force: true });
  await page.getByText('first was removed').waitFor();
});

it('the list can be searched, filtered and sorted by keyboard, and removes many boxes at once', async () => {
  const { page } = dashboard;
  await dashboard.go('/');
  await Promise.all(['kiwi1', 'kiwi2', 'plum'].map((name) => server.client.create({ ...small, name })));
  for (const name of ['kiwi1', 'kiwi2', 'plum']) await row(name).waitFor();
  await server.client.stopBox('plum');
  await row('plum').getByText('stopped').waitFor();
  expect(await dashboard.axeProblems()).toEqual([]);
  await page.getByLabel('Status', { exact: true }).selectOption('stopped');
  await expect.poll(names).toEqual(['plum']);
  await page.getByLabel('Status', { exact: true }).selectOption('all');
  await page.getByRole('button', { name: 'Name' }).click();
  await expect.poll(names).toEqual(['kiwi1', 'kiwi2', 'plum']);
  await page.keyboard.press('/');
  await page.keyboard.type('kiwi');
  await expect.poll(names).toEqual(['kiwi1', 'kiwi2']);
  await page.keyboard.press('Escape');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('x');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('x');
  await page.getByRole('region', { name: 'Selected boxes' }).getByText('2 selected').waitFor();
  await page.keyboard.press('ArrowUp');
  await page.getByRole('region', { name: 'Selected boxes' }).getByRole('button', { name: 'Remove' }).click();
  const dialog = page.getByRole('dialog', { name: 'Remove 2 boxes?' });
  await expect.poll(() => dialog.getByRole('listitem').allTextContents()).toEqual(['kiwi1', 'kiwi2']);
  expect(await dashboard.axeProblems()).toEqual([]);
  await dialog.getByRole('button', { name: 'Remove 2 boxes' }).click();
  await page.getByText('No box fits').waitFor();
  expect((await server.client.listBoxes()).map(({ name }) => name)).toEqual(['plum']);
  await page.getByRole('button', { name: 'Show all 1' }).click();
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  expect(await dashboard.axeProblems()).toEqual([]);
  await page.keyboard.press('Escape');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'plum', level: 1 }).waitFor();
});

it('the use of a box is shown beside its reservation, and the last hour in charts', async () => {
  const own = await openDashboard(browser, server);
  const { page, go } = own;
  const busy = page.getByRole('row').filter({ hasText: 'busy' });
  const box = await server.client.create({ ...small, name: 'busy' });
  const exec = await server.client.startExec(box.id, ['sh', '-c', 'while :; do :; done']);
  await busy.getByText(/^0\.[1-9]\d? of$|^1(\.\d)? of$/).waitFor();
  await busy.getByText(/^\d+ MB of$/).waitFor();
  await page
    .locator('.chart')
    .filter({ hasText: /CPU: (0\.\d+|1(\.\d)?) used, \d reserved/ })
    .waitFor();
  await page
    .locator('.chart')
    .filter({ hasText: /Memory: \d+ MB used, \d+ MB reserved/ })
    .waitFor();
  await page
    .locator('.chart')
    .filter({ hasText: /Create takes: \d/ })
    .waitFor();
  await go(`/boxes/${box.id}/details`);
  await page.getByText(/^1, (0\.\d+|1(\.\d)?) used$/).waitFor();
  expect(await own.axeProblems()).toEqual([]);
  // The server keeps the figures: a page that is opened later shows the earlier ones.
  const later = await openDashboard(browser, server);
  await later.page
    .locator('.chart')
    .filter({ hasText: /Create takes: \d/ })
    .waitFor();
  await later.close();
  await server.client.cancelExec(box.id, exec.id);
  await server.client.removeBox(box.id, { force: true });
  expectNoComplaints(own);
  await own.close();
});

it('the console has no message after all these tests', () => {
  // The browser itself writes a message for an answer with an error status.
  expectNoComplaints(dashboard, /Failed to load resource: the server responded with a status of 4\d\d/);
});
