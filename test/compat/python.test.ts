// Runs the published, unchanged Python SDK against a real server, over TCP and over the Unix socket. The tests are in
// python/. Each of them is one test here, and their figures are printed.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { python } from './program.ts';

const testProgram = join(import.meta.dirname, 'python/run.py');

/** One line of run.py: a test that has ended, a fixture that failed, or a figure. */
interface Line {
  readonly test?: string;
  readonly fixture?: string;
  readonly figure?: string;
  readonly problem?: string | null;
}

/** The environment of the tests. It has nothing of this process: no proxy, no home and no other server. */
const environment = (more: Record<string, string>) => ({
  PATH: process.env['PATH'],
  PYTHONDONTWRITEBYTECODE: '1',
  ...more,
});

const names = listTests();

function listTests(): string[] {
  if (!existsSync(python)) throw new Error('the Python SDK is not installed: run scripts/setup-compat.sh');
  const { stdout, stderr, status } = spawnSync(python, [testProgram, '--list'], {
    encoding: 'utf8',
    env: environment({ HOME: tmpdir() }),
  });
  if (status !== 0) throw new Error(`the Python tests cannot be listed: ${stderr}`);
  return linesOf(stdout).flatMap(({ test }) => test ?? []);
}

function linesOf(text: string): Line[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

async function runTests(env: Record<string, string>, onLine: (line: Line) => void): Promise<void> {
  const child = spawn(python, [testProgram], { env: environment(env), stdio: ['ignore', 'pipe', 'inherit'] });
  createInterface(child.stdout).on('line', (line) => {
    onLine(JSON.parse(line) as Line);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`the Python tests ended with ${code}`);
}

describe.each(['tcp', 'socket'] as const)('the Python SDK over %s', (via) => {
  const problems = new Map<string, string | null>();
  const fixtures: string[] = [];
  const figures: string[] = [];
  let server: TestServer;
  let home: string;

  beforeAll(async () => {
    // The server sends a comment whenever a stream is silent for 25 ms. No test may notice it.
    server = await startServer({ env: { BOXRUN_SSE_HEARTBEAT_MS: '25' } });
    home = await mkdtemp(join(tmpdir(), 'boxrun-home-'));
    // The SDK uses ~/.boxrun/boxrun.sock if that exists, and otherwise BOXRUN_HOST and BOXRUN_PORT.
    if (via === 'socket') await symlink(server.stateDir, join(home, '.boxrun'));
    await runTests(
      { HOME: home, BOXRUN_PORT: via === 'tcp' ? String(server.port) : '1' },
      ({ test, fixture, figure, problem }) => {
        if (test !== undefined) problems.set(test, problem ?? null);
        if (fixture !== undefined) fixtures.push(`${fixture}\n${problem ?? ''}`);
        if (figure !== undefined) figures.push(figure);
      },
    );
  }, 300_000);
  afterAll(async () => {
    const passed = [...problems.values()].filter((problem) => problem === null).length;
    console.log(
      [
        `The Python SDK over ${via}: ${passed} of ${names.length} tests passed`,
        ...figures.map((each) => `  ${each}`),
      ].join('\n'),
    );
    await server.close();
    await rm(home, { recursive: true, force: true });
  });

  it.each(names)('%s', (name) => {
    expect(problems.has(name), fixtures.join('\n')).toBe(true);
    const problem = problems.get(name) ?? null;
    if (problem !== null) expect.fail(problem);
  });
});
