// Tests what a real server with the container driver does when the first process of a box is killed: its commands fail,
// the box is stopped with a reason, and its disk stays.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { initOf, pidInBox } from '../support/host/box-processes.ts';
import { eventually } from '../support/runs/eventually.ts';

let server: CrashServer;
beforeEach(async () => {
  server = await startCrashServer({ args: ['--workers', '0'], env: { BOXRUN_MAX_CPU: '2' } });
});
afterEach(async () => {
  await server.close();
});

it('when the first process of a box is killed, its commands fail, the box stops with a reason, and keeps its disk', async () => {
  const { client } = server;
  const box = await client.create({ image: 'base', name: 'mortal', cpu: 2, memory_mb: 128 });
  await collect(client, await client.startExec('mortal', { cmd: ['sh', '-c', 'echo kept > /root/file'] }));
  const exec = await client.startExec('mortal', { cmd: ['sleep', '1000'], env: { MARKER: `engine-${box.id}` } });
  const output = collect(client, exec);
  process.kill(await initOf(await pidInBox(`MARKER=engine-${box.id}`)), 'SIGKILL');
  // The kernel kills the command together with the init. The worker may notice either death first.
  const { exit } = await output;
  expect(exit.error ?? `exit code ${exit.exitCode}`).toMatch(/box ended|exit code 137/);
  expect((await client.getExec('mortal', exec.id)).status).toBe('failed');
  const stopped = await eventually('the box is stopped', async () => {
    const now = await client.getBox('mortal');
    return now.status === 'stopped' && now;
  });
  expect(stopped.error_code).toBe('RUNTIME_ERROR');
  expect(stopped.error_message).not.toBeNull();
  const other = await client.create({ image: 'base', cpu: 2, memory_mb: 128 });
  await client.removeBox(other.id, { force: true });
  const started = await client.startBox('mortal');
  expect(started).toMatchObject({ status: 'running', error_code: null, error_message: null });
  const after = await client.startExec('mortal', { cmd: ['cat', '/root/file'] });
  expect((await collect(client, after)).stdout).toBe('kept\n');
});
