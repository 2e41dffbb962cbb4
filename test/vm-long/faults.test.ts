// Tests what must hold when a process dies under a box on a real micro-VM: writer, supervisor, gateway, keeper, worker
// and the VM itself, while commands run. The promises are the same as for containers. It is slow on an emulated host,
// so there are few boxes.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { killQuietly } from '../../src/shared/process/child-process.ts';
import { statePaths } from '../../src/shared/settings/state-dir.ts';
import { findVmProcesses } from '../../src/worker/drivers/boxlite/home/vm-processes.ts';
import { collect, counted, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';

const box = { image: 'base', cpu: 1, memory_mb: 256, disk_size_gb: 1 };
const lines = 300;
/** Takes about 3 seconds on a fast host. */
const count = `i=0; while [ $i -lt ${lines} ]; do echo line-$i; i=$((i+1)); [ $((i%20)) = 0 ] && sleep 0.2; done`;
let server: CrashServer;
let id: string;

beforeAll(async () => {
  server = await startCrashServer({
    driver: 'boxlite',
    args: ['--workers', '0'],
    env: { BOXRUN_RECONCILE_MS: '2000' },
  });
  id = (await server.client.create({ ...box, name: 'vm' })).id;
}, 240_000);
afterAll(async () => {
  await server.close();
}, 120_000);

const shell = (script: string) => server.client.startExec('vm', { cmd: ['sh', '-c', script] });
const run = async (script: string) => collect(server.client, await shell(script));
/** Waits until commands run again, so the box has a worker. */
const works = () =>
  eventually(
    'commands run',
    () =>
      run('echo up').then(
        ({ stdout }) => stdout === 'up\n',
        () => false,
      ),
    90_000,
  );
const bootId = async () => (await run('cat /proc/sys/kernel/random/boot_id')).stdout;

/** Starts the counting command, and waits for its first line. */
async function begin() {
  const exec = await shell(count);
  const output = collect(server.client, exec);
  for await (const event of server.client.execEvents(exec)) if (event.type === 'log') break;
  return { exec, output };
}

describe('a command on a micro-VM', () => {
  it.each(['writer', 'supervisor', 'gateway'] as const)(
    'keeps every byte and its row when the %s dies',
    async (role) => {
      const before = await bootId();
      const { exec, output } = await begin();
      await server.kill(role);
      const { stdout, exit } = await output;
      expect(stdout).toBe(counted(lines));
      expect(exit.exitCode).toBe(0);
      expect(
        await eventually('the row says so', () => server.client.getExec('vm', exec.id).catch(() => null)),
      ).toMatchObject({ status: 'succeeded', exit_code: 0 });
      await works();
      expect(await bootId()).toBe(before);
    },
  );

  it('keeps every byte when the keeper dies and serve starts again', async () => {
    const before = await bootId();
    const { output } = await begin();
    await server.kill('keeper');
    await server.serve();
    const { stdout, exit } = await output;
    expect(stdout).toBe(counted(lines));
    expect(exit.exitCode).toBe(0);
    await works();
    expect(await bootId()).toBe(before);
  });

  it('keeps every byte and its row when its worker dies twice, and the VM lives on', async () => {
    const before = await bootId();
    const { exec, output } = await begin();
    for (let death = 0; death < 2; death += 1) {
      await server.kill('worker', id);
      await works();
    }
    const { stdout, exit, seqs } = await output;
    expect(stdout).toBe(counted(lines));
    expect(exit.exitCode).toBe(0);
    expect(seqs.at(-1)).toBe(exit.seq);
    expect((await server.client.getExec('vm', exec.id)).status).toBe('succeeded');
    expect(await bootId()).toBe(before);
  });

  it('ends with its VM, and the box is stopped, keeps its disk, and can start again', async () => {
    await run('echo kept > /root/file; sync');
    const before = await bootId();
    const { exec, output } = await begin();
    const shim = (await findVmProcesses(join(server.stateDir, 'boxes', id))).find(({ isShim }) => isShim);
    process.kill(shim?.pid ?? 0, 'SIGKILL');
    const { exit } = await output;
    expect(exit.exitCode).not.toBe(0);
    expect((await server.client.getExec('vm', exec.id)).status).toBe('failed');
    await eventually('the box is stopped', async () => (await server.client.getBox('vm')).status === 'stopped', 30_000);
    expect(await findVmProcesses(join(server.stateDir, 'boxes', id))).toEqual([]);
    await server.client.startBox('vm');
    expect((await run('cat /root/file')).stdout).toBe('kept\n');
    expect(await bootId()).not.toBe(before);
  });
});

it('a micro-VM of this server whose box is in no database is ended, and its disk is kept aside', async () => {
  const home = join(server.stateDir, 'boxes', id);
  const { lostDir } = statePaths(server.stateDir);
  const vm = await findVmProcesses(home);
  expect(vm.length).toBeGreaterThan(0);
  const others = async () =>
    (await processesOf(server.stateDir)).filter(({ pid }) => vm.every((entry) => entry.pid !== pid));
  await server.kill('keeper'); // The keeper would start the others again.
  for (const { pid } of await others()) killQuietly(pid, 'SIGKILL');
  await eventually('the VM is all that is left', async () => (await others()).length === 0);
  expect((await findVmProcesses(home)).length).toBe(vm.length);
  const database = new Database(join(server.stateDir, 'boxrun.db'));
  database.pragma('foreign_keys = ON');
  for (const from of [
    'events WHERE exec_id IN (SELECT id FROM execs WHERE box_id = ?)',
    'execs WHERE box_id = ?',
    'boxes WHERE id = ?',
  ]) {
    database.prepare(`DELETE FROM ${from}`).run(id);
  }
  database.close();
  await server.serve();
  expect(await server.client.listBoxes()).toEqual([]);
  await eventually('its home is set aside', async () => !existsSync(home), 90_000);
  expect(await findVmProcesses(home)).toEqual([]);
  expect(readdirSync(lostDir).filter((name) => name.startsWith(id))).toHaveLength(1);
});
