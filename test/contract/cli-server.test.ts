// The commands that show, end and restart the server of this host, and what a command says while it waits for a server.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BoxRun } from '../../src/sdk/index.ts';
import { defaultSocket } from '../../src/shared/settings/socket-place.ts';
import { processesOf } from '../support/host/processes.ts';
import { eventually } from '../support/runs/eventually.ts';
import { cliBundle } from '../support/servers/server.ts';
import { cacheHome } from '../support/servers/prepared-state.ts';

let stateDir: string;
let env: NodeJS.ProcessEnv;

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'boxrun-cli-server-'));
  env = {
    PATH: process.env['PATH'],
    HOME: stateDir,
    XDG_CACHE_HOME: cacheHome,
    BOXRUN_STATE_DIR: stateDir,
    BOXRUN_DRIVER: 'container',
    BOXRUN_PORT: '0',
    BOXRUN_SOCKET: defaultSocket(stateDir),
    BOXRUN_WORKERS: '0',
    BOXRUN_MAX_CPU: '8',
  };
});
afterEach(async () => {
  const client = new BoxRun({ socketPath: defaultSocket(stateDir) });
  for (const box of await client.listBoxes().catch(() => []))
    await client.removeBox(box.id, { force: true, graceS: 0 });
  await client.close();
  await boxrun(['server', 'stop']);
  await eventually('its processes are gone', async () => (await processesOf(stateDir)).length === 0, 30_000);
  await rm(stateDir, { recursive: true, force: true });
});

function boxrun(
  args: readonly string[],
  extra: NodeJS.ProcessEnv = {},
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [cliBundle, ...args], { env: { ...env, ...extra } }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, stdout, stderr });
    });
  });
}

const keeper = async () => (await processesOf(stateDir)).find(({ role }) => role === 'keeper')?.pid ?? null;

it('info and server status start no server, and say that none answers', async () => {
  const info = await boxrun(['info']);
  expect(info).toMatchObject({ code: 1, stdout: '' });
  expect(info.stderr).toMatch(/^Error: \[UNAVAILABLE\] no server answers at .*\nHint: boxrun serve\n$/);
  const status = await boxrun(['server', 'status', '--json']);
  expect(status.code).toBe(1);
  expect(JSON.parse(status.stdout)).toMatchObject({ answers: false, keeper_pid: null, state_dir: stateDir });
  const stop = await boxrun(['server', 'stop']);
  expect(stop.code).toBe(0);
  expect(stop.stderr).toMatch(/^boxrun: no server runs\n$/m); // A slow stop is announced first.
  expect((await boxrun(['server', 'logs'])).stderr).toContain('there is no log');
  expect(await processesOf(stateDir)).toEqual([]);
});

it('an automatic start is announced, and the server can be shown, restarted and stopped while a box runs on', async () => {
  const created = await boxrun(['create', 'base', '-n', 'web', '--cpu', '1', '-m', '64']);
  expect(created).toMatchObject({ code: 0 });
  expect(created.stderr).toMatch(/^boxrun: starting the server \.\.\.\n/);
  const first = await keeper();
  const status = await boxrun(['server', 'status', '--json']);
  expect(JSON.parse(status.stdout)).toMatchObject({ answers: true, keeper_pid: first, workers: 1 });
  expect((await boxrun(['server', 'logs'])).stdout).toContain('BoxRun is ready');
  expect((await boxrun(['server', 'logs', '-n', '1', 'keeper'])).stdout.split('\n')).toHaveLength(2);

  expect(await boxrun(['server', 'restart'])).toMatchObject({ code: 0, stdout: 'Started: the server\n' });
  expect(await keeper()).not.toBe(first);
  expect((await boxrun(['exec', 'web', 'echo', 'alive'])).stdout).toBe('alive\n');

  const stopped = await boxrun(['server', 'stop', '--stop-boxes']);
  expect(stopped).toMatchObject({ code: 0, stdout: 'Stopped: web\nStopped: the server\n' });
  expect(await keeper()).toBeNull();
  expect((await boxrun(['ls'])).stdout).toMatch(/web +stopped/);
});

it('a socket at which the server does not listen is reported soon, with the reason', async () => {
  expect((await boxrun(['ls'])).code).toBe(0);
  const result = await boxrun(['ls'], { BOXRUN_SOCKET: join(stateDir, 'other.sock') });
  expect(result.code).toBe(1);
  expect(result.stderr).toContain(`a server uses the state directory ${stateDir}, but it does not listen at`);
  expect(result.stderr).toContain('correct BOXRUN_SOCKET');
});

it('a server that ends while it starts is reported at once, with what it said', async () => {
  const result = await boxrun(['ls'], { BOXRUN_GATEWAYS: 'two' });
  expect(result.code).toBe(1);
  expect(result.stderr).toMatch(/BOXRUN_GATEWAYS|gateways/);
});
