// Tests the main views in light and dark colours, and on a phone: nothing is wider than the screen, and axe-core finds
// no serious problem. With BOXRUN_TEST_SCREENSHOTS set to a directory, it writes pictures there. The pictures in
// docs/dashboard.md are made in this way.
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { expectNoComplaints, launchBrowser, openDashboard, type Dashboard } from './chromium.ts';

const directory = process.env['BOXRUN_TEST_SCREENSHOTS'];
let server: TestServer;
let browser: Browser;
let execId: string;
beforeAll(async () => {
  [server, browser] = await Promise.all([startServer({ maxCpu: 16, maxMemoryMb: 16_384 }), launchBrowser()]);
  const { client } = server;
  const make = (name: string, cpu: number, memory_mb: number, labels: Record<string, string>) =>
    client.create({ image: 'base', name, cpu, memory_mb, labels });
  for (const [at, name] of ['build-42', 'agent-1', 'agent-2', 'notebook'].entries()) {
    await make(name, 1 + (at % 2), 512 * (1 + at), { team: at % 2 === 0 ? 'blue' : 'green', stage: 'test' });
  }
  await client.stopBox('notebook');
  await client.startExec('agent-2', ['sh', '-c', 'head -c 90000000 /dev/zero > /tmp/data; while :; do :; done']);
  await client.exec('build-42', ['ls', '-l', '/']);
  await client.exec('build-42', ['sh', '-c', 'echo missing >&2; exit 2']);
  const script =
    `i=0; while [ $i -lt 400 ]; do i=$((i+1)); printf '\\033[36m[%03d]\\033[0m compile \\033[1mmodule_%d.c\\033[0m \\033[32mok\\033[0m\\n' $i $i; ` +
    `[ $((i % 9)) = 0 ] && echo "module_$i.c: warning: unused variable" >&2; done; printf '\\033[32;1mdone\\033[0m: 400 modules\\n'`;
  execId = (await client.startExec('build-42', ['sh', '-c', script])).id;
  await client.getExec('build-42', execId, { waitS: 20 });
});
afterAll(async () => {
  await browser.close();
  await server.close();
});

async function picture({ page, axeProblems }: Dashboard, name: string): Promise<void> {
  expect(await axeProblems(), name).toEqual([]);
  const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(tooWide, `${name} is wider than the screen, by pixels`).toBeLessThanOrEqual(0);
  const isInDocs = !/^(wide|phone-(?!boxes))/.test(name);
  if (directory !== undefined && isInDocs) await page.screenshot({ path: join(directory, `${name}.png`) });
}

it.each(['light', 'dark'] as const)('the dashboard shows every view in %s colours', async (colorScheme) => {
  const dashboard = await openDashboard(browser, server, { colorScheme, height: 760 });
  const { page, go } = dashboard;
  const box = await server.client.getBox('build-42');
  await page.locator('.chart').first().waitFor();
  await page.getByRole('link', { name: 'notebook' }).waitFor();
  await page
    .getByRole('row')
    .filter({ hasText: 'agent-2' })
    .getByText(/^[01](\.\d+)? of$/)
    .waitFor();
  await picture(dashboard, `boxes-${colorScheme}`);
  await page.getByRole('button', { name: 'Create box' }).click();
  await page.getByRole('dialog').waitFor();
  await picture(dashboard, `create-${colorScheme}`);
  await page.keyboard.press('Escape');
  await go(`/boxes/${box.id}`);
  await page.getByRole('link', { name: 'ls -l /' }).waitFor();
  await picture(dashboard, `box-${colorScheme}`);
  await go(`/boxes/${box.id}/exec/${execId}`);
  await page.getByRole('log').getByText('400 modules').waitFor();
  await page.getByLabel('Search the output').fill('module_39');
  await page.getByText(/^\d+ lines$/).waitFor();
  await picture(dashboard, `output-${colorScheme}`);
  await go(`/boxes/${box.id}/terminal`);
  await page.locator('.terminal-host').waitFor();
  await page.getByText('Connecting').waitFor({ state: 'detached' });
  await page.locator('.xterm-rows').getByText(/[#$] /).first().waitFor();
  await page.locator('.terminal-host').click();
  await page.keyboard.type('ls -l / | head -n 12; echo ready\n');
  await page
    .locator('.xterm-rows')
    .getByText(/^ready/)
    .waitFor();
  await picture(dashboard, `terminal-${colorScheme}`);
  expectNoComplaints(dashboard);
  await dashboard.close();
});

it.each([
  [360, 'phone'],
  [2560, 'wide'],
] as const)('the dashboard fits into a width of %i pixels', async (width, name) => {
  const dashboard = await openDashboard(browser, server, { width, height: width === 360 ? 740 : 1200 });
  const { page, go } = dashboard;
  const box = await server.client.getBox('build-42');
  await page.getByRole('link', { name: 'notebook' }).waitFor();
  await picture(dashboard, `${name}-boxes`);
  for (const view of ['commands', 'files', 'details', `exec/${execId}`]) {
    await go(`/boxes/${box.id}/${view}`);
    await page.locator('h1').first().waitFor();
    await picture(dashboard, `${name}-${view.split('/')[0] ?? ''}`);
  }
  expectNoComplaints(dashboard);
  await dashboard.close();
});
