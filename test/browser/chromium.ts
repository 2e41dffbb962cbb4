// Opens the dashboard of a real server in the distribution's Chromium. It keeps every message on the console and every
// script error, so a test can require that there was none. It can check a page against the accessibility rules of
// axe-core.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { expect } from 'vitest';
import type { TestServer } from '../support/servers/server.ts';

const executablePath = process.env['BOXRUN_TEST_CHROMIUM'] ?? '/usr/bin/chromium';
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export interface Dashboard {
  readonly page: Page;
  readonly context: BrowserContext;
  /** The errors and warnings on the console. */
  readonly complaints: string[];
  /** Opens a view, such as `/boxes/ID`. */
  go(view: string): Promise<void>;
  /** The serious accessibility problems on the page as it is now. */
  axeProblems(): Promise<string[]>;
  close(): Promise<void>;
}

export async function launchBrowser(): Promise<Browser> {
  // These tests run as root, and Chromium has no sandbox for root.
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--enable-precise-memory-info'],
  });
}

export async function openDashboard(
  browser: Browser,
  { port }: Pick<TestServer, 'port'>,
  {
    width = 1280,
    height = 800,
    colorScheme = 'light',
  }: { width?: number; height?: number; colorScheme?: 'light' | 'dark' } = {},
): Promise<Dashboard> {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme,
    acceptDownloads: true,
    locale: 'en-GB',
    timezoneId: 'UTC',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  const go = async (view: string): Promise<void> => {
    await page.goto(`http://127.0.0.1:${port}/ui#${view}`);
    await page.locator('.connection.live').waitFor();
  };
  await go('/');
  return {
    page,
    context,
    complaints,
    go,
    async axeProblems() {
      // evaluate() uses the debugger, to which the policy of the page does not apply.
      await page.evaluate(axe);
      const violations = await page.evaluate(async () => {
        const { axe: loaded } = globalThis as unknown as {
          axe: {
            run(options: object): Promise<{
              violations: { id: string; impact: string; nodes: { target: string[]; failureSummary: string }[] }[];
            }>;
          };
        };
        const { violations: found } = await loaded.run({
          runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
        });
        return found;
      });
      return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(
          ({ id, nodes }) =>
            `${id}: ${nodes
              .slice(0, 3)
              .map(
                ({ target, failureSummary }) =>
                  `${target.join(' ')} (${failureSummary.split('\n').slice(1, 2).join('').trim()})`,
              )
              .join('; ')}`,
        );
    },
    close: () => context.close(),
  };
}

/** Expects no complaints, except the `allowed` ones: those about a server that the test has stopped on purpose. */
export function expectNoComplaints({ complaints }: Dashboard, allowed = /$^/): void {
  expect(complaints.filter((complaint) => !allowed.test(complaint))).toEqual([]);
}
