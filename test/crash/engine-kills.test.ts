// The engine of a box dies by itself: its commands end as failed, the box is stopped with the reason, its disk stays.
import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { collect, startCrashServer, type CrashServer } from '../support/crash-server.ts';
import { eventually } from '../support/processes.ts';

let server: CrashServer;
beforeEach(async () => {
  server = await startCrashServer({ args: ['--workers', '0'], env: { BOXRUN_MAX_CPU: '2' } });
});
afterEach(async () => {
  await server.close();
});

/** The host's pid of a process inside the box, by a marker in its environment. */
async function pidInBox(marker: string): Promise<number> {
  const { readdir } = await import('node:fs/promises');
  return eventually(`a process with ${marker}`, async () => {
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
      const status = environment.includes(marker) ? await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '') : '';
      // Two numbers in NSpid: a process in a pid namespace of its own.
      if (/^NSpid:\t\d+\t\d+/m.test(status)) return Number(pid);
    }
    return null;
  });
}

/** Process 1 of the pid namespace in which `pid` is. */
async function initOf(pid: number): Promise<number> {
  const { readdir, readlink } = await import('node:fs/promises');
  const namespace = await readlink(`/proc/${pid}/ns/pid`);
  for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const same = (await readlink(`/proc/${name}/ns/pid`).catch(() => '')) === namespace;
    if (same && /^NSpid:\t\d+\t1$/m.test(await readFile(`/proc/${name}/status`, 'utf8'))) return Number(name);
  }
  throw new Error('no init found');
}

it('ends its commands, stops the box with a reason, frees the quota, and keeps the disk', async () => {
  const { client } = server;
  const box = await client.create({ image: 'base', name: 'mortal', cpu: 2, memory_mb: 128 });
  await collect(client, await client.startExec('mortal', { cmd: ['sh', '-c', 'echo kept > /root/file'] }));
  const exec = await client.startExec('mortal', { cmd: ['sleep', '1000'], env: { MARKER: `engine-${box.id}` } });
  const output = collect(client, exec);
  process.kill(await initOf(await pidInBox(`MARKER=engine-${box.id}`)), 'SIGKILL');
  // The kernel kills the command with its init: whether it is seen to die first, or the engine, both say why.
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
