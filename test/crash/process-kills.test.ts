// Tests a real server while its processes are killed with SIGKILL. Commands go on, their output is complete, and the
// server works again without help. Only a killed worker ends the commands of its box.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BoxRunError } from '../../src/sdk/index.ts';
import { collect, counted, counting, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';

/**
 * The requirement is 2 s. The crash matrix checks that, on a machine where nothing else runs. Here other tests run at
 * the same time, so the bound is wider, and the test prints the time.
 */
const backWithinMs = 8_000;
/** The bound for a whole start of `serve`. The requirement is 2 s for this, too. */
const serveWithinMs = 20_000;
const measured = (what: string, ms: number) => {
  console.log(`back after SIGKILL of the ${what}: ${Math.round(ms)} ms`);
  return ms;
};
let server: CrashServer;

beforeEach(async () => {
  server = await startCrashServer({ args: ['--workers', '0'] });
});
afterEach(async () => {
  await server.close();
});

/** Waits until a command runs again, and returns the time in milliseconds. */
async function untilServing(box: string): Promise<number> {
  const startedAt = performance.now();
  await eventually('a command runs again', async () => {
    try {
      const exec = await server.client.startExec(box, { cmd: ['echo', 'back'] });
      return (await collect(server.client, exec)).stdout === 'back\n';
    } catch (error) {
      if (error instanceof BoxRunError && error.code === 'UNAVAILABLE') return false;
      throw error;
    }
  });
  return performance.now() - startedAt;
}

describe('while a command runs', () => {
  for (const role of ['supervisor', 'gateway', 'writer'] as const) {
    it(`its output has no gap after SIGKILL of the ${role}, and the server works again by itself`, async () => {
      const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
      const exec = await server.client.startExec(box.id, { cmd: counting(1500) });
      const output = collect(server.client, exec);
      await server.kill(role);
      expect(measured(role, await untilServing(box.id))).toBeLessThan(backWithinMs);
      const { stdout, exit } = await output;
      expect(stdout).toBe(counted(1500));
      expect(exit.exitCode).toBe(0);
      const roles = (await processesOf(server.stateDir)).map((entry) => entry.role);
      expect(roles.sort()).toEqual(['gateway', 'keeper', 'supervisor', 'worker', 'writer']);
    });
  }

  it('it goes on after SIGKILL of the keeper, and the next serve adopts it', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const untilTold = 'while [ ! -e /root/told ]; do sleep 0.05; done';
    const exec = await server.client.startExec(box.id, { cmd: ['sh', '-c', `${counting(2500).at(-1)}; ${untilTold}`] });
    await server.kill('keeper');
    await eventually('supervisor and gateway are gone', async () =>
      (await processesOf(server.stateDir)).every(({ role }) => role === 'worker' || role === 'writer'),
    );
    const startedAt = performance.now();
    await server.serve();
    expect(measured('keeper, from the next serve', performance.now() - startedAt)).toBeLessThan(serveWithinMs);
    expect((await server.client.getExec(box.id, exec.id)).status).toBe('running');
    await server.client.startExec(box.id, { cmd: ['touch', '/root/told'] });
    const { stdout, exit } = await collect(server.client, exec);
    expect(stdout).toBe(counted(2500));
    expect(exit.exitCode).toBe(0);
  });

  it('it goes on after the server has ended in order, and the next serve shows its complete output', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const exec = await server.client.startExec(box.id, { cmd: counting(2000) });
    expect(await server.end()).toBe(0);
    await server.serve();
    const { stdout } = await collect(server.client, exec);
    expect(stdout).toBe(counted(2000));
  });

  it('it goes on after SIGKILL of its worker, under a new worker', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const { client } = server;
    await collect(client, await client.startExec(box.id, { cmd: ['sh', '-c', 'echo kept > /root/file'] }));
    const exec = await client.startExec(box.id, { cmd: ['sh', '-c', 'echo first; sleep 1000 & sleep 1000'] });
    const output = collect(client, exec);
    await eventually('the first line is committed', async () =>
      (await client.listExecs(box.id)).some(({ id, status }) => id === exec.id && status === 'running'),
    );
    await server.kill('worker', box.id);
    expect(measured('worker', await untilServing(box.id))).toBeLessThan(backWithinMs);
    expect((await client.getBox(box.id)).status).toBe('running');
    expect((await client.cancelExec(box.id, exec.id)).status).toBe('canceled');
    expect(await output).toMatchObject({ stdout: 'first\n', exit: { error: 'canceled' } });
    const after = await client.startExec(box.id, { cmd: ['sh', '-c', 'cat /root/file; ps | grep -c "[s]leep 1000"'] });
    expect((await collect(client, after)).stdout).toBe('kept\n0\n');
  });

  it('its box goes to error after four kills of its worker, and a client can still remove the box', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    for (let round = 0; round < 4; round++) {
      await eventually(
        'a worker is there',
        async () =>
          (await processesOf(server.stateDir)).some((entry) => entry.box === box.id) &&
          (await server.client.getBox(box.id)).status === 'running',
      );
      await untilServing(box.id);
      await server.kill('worker', box.id);
    }
    const failed = await eventually('the box is in error', async () => {
      const now = await server.client.getBox(box.id);
      return now.status === 'error' && now;
    });
    expect(failed.error_message).toMatch(/worker failed 4 times/);
    await server.client.removeBox(box.id);
  });
});

describe('while a box is created', () => {
  it('a kill of its worker leaves no name, no quota and no row of the box', async () => {
    // The registry never answers, so the create is still going on when the worker is killed.
    const { createServer } = await import('node:net');
    const registry = createServer(() => undefined);
    await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve));
    const address = registry.address() as { port: number };
    const creating = server.client
      .create({ image: `127.0.0.1:${address.port}/library/nothing:1`, name: 'half', memory_mb: 90_000 })
      .then(
        () => null,
        (error: unknown) => error,
      );
    const worker = await eventually('a worker has the box', async () =>
      (await processesOf(server.stateDir)).find(({ role, box }) => role === 'worker' && box !== 'spare'),
    );
    await server.kill('worker', worker.box ?? undefined);
    expect(await creating).toBeInstanceOf(BoxRunError);
    expect(await server.client.listBoxes()).toEqual([]);
    // Name and quota are free.
    await server.client.create({ image: 'base', name: 'half', memory_mb: 90_000 });
    registry.close();
  });
});

describe('after all processes were killed at once', () => {
  it('the next serve has every acknowledged row, and boxes and commands run on', async () => {
    const { client } = server;
    const boxes = [];
    for (const name of ['one', 'two']) boxes.push(await client.create({ image: 'base', name, cpu: 1, memory_mb: 128 }));
    const finished = await client.startExec('one', { cmd: ['echo', 'done'] });
    await collect(client, finished);
    const running = await client.startExec('two', { cmd: ['sleep', '1000'] });
    for (const { pid } of await processesOf(server.stateDir)) process.kill(pid, 'SIGKILL');
    await server.serve();
    const states = await eventually('both boxes run again', async () => {
      const now = await client.listBoxes();
      return now.every(({ status }) => status === 'running') && now;
    });
    expect(states.map(({ name }) => name).sort()).toEqual(['one', 'two']);
    expect((await collect(client, finished)).stdout).toBe('done\n');
    expect((await client.cancelExec('two', running.id)).status).toBe('canceled');
    const check = await client.startExec('two', { cmd: ['sh', '-c', 'ps | grep -c "[s]leep 1000"'] });
    expect((await collect(client, check)).stdout).toBe('0\n');
  });
});
