// Tests a real server as process 1, as in a container: no orphan stays as a zombie, and SIGTERM ends the server in
// order.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BoxRun } from '../../src/sdk/index.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';

const program = join(import.meta.dirname, '../../bin/boxrun');
let stateDir: string;
let client: BoxRun;
let outside: ChildProcess;

beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'boxrun-one-'));
  client = new BoxRun({ socketPath: join(stateDir, 'boxrun.sock') });
  const serve = [program, 'serve', '--driver', 'container', '--port', '0', '--workers', '1', '--on-exit', 'stop'];
  outside = spawn('unshare', ['--pid', '--fork', '--mount-proc', '--kill-child', ...serve], {
    stdio: 'ignore',
    env: { ...process.env, BOXRUN_STATE_DIR: stateDir },
  });
  await eventually(
    'the server answers',
    () =>
      client.info().then(
        () => true,
        () => false,
      ),
    30_000,
  );
});
afterAll(async () => {
  outside.kill('SIGKILL');
  await client.close();
  await rm(stateDir, { recursive: true, force: true });
});

/** Finds the processes whose parent is `pid`, with their states. */
async function childrenOf(pid: number): Promise<{ pid: number; state: string }[]> {
  const found = [];
  for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const [state = '', parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(parent) === pid) found.push({ pid: Number(name), state });
  }
  return found;
}

describe('a server as process 1', () => {
  it('reaps the orphans of a killed supervisor, and ends in order on SIGTERM', async () => {
    const [first] = await childrenOf(outside.pid as number);
    const init = (first as { pid: number }).pid;
    const box = await client.create({ image: 'base', name: 'one' });
    const worker = await processOf(stateDir, 'worker', box.id);
    const supervisor = await processOf(stateDir, 'supervisor');
    process.kill(supervisor.pid, 'SIGKILL');
    await eventually('its workers are orphans', async () =>
      (await childrenOf(init)).some(({ pid }) => pid === worker.pid),
    );
    await eventually('its successor removes the box', () =>
      client.removeBox(box.id, { force: true }).then(
        () => true,
        () => false,
      ),
    );
    await eventually(
      'the worker is gone, and not a zombie',
      async () => !(await childrenOf(init)).some(({ pid }) => pid === worker.pid),
    );
    await eventually('no zombie is left', async () => !(await childrenOf(init)).some(({ state }) => state === 'Z'));
    const exited = once(outside, 'exit');
    process.kill(init, 'SIGTERM');
    expect(await exited).toEqual([0, null]);
  });
});
