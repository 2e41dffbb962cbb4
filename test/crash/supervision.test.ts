// Tests a real server with the container driver: workers die or hang while they start, stop or remove a box, an engine
// cannot be killed, or the writer does not answer. Each request is still finished. A box that may still run keeps its
// share of the quota.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { BoxRunError } from '../../src/sdk/index.ts';
import { killQuietly } from '../../src/shared/process/child-process.ts';
import { limits } from '../../src/shared/limits.ts';
import { openReader } from '../../src/shared/store/reader.ts';
import { initOf, pidInBox } from '../support/host/box-processes.ts';
import {
  collect,
  startCrashServer,
  type CrashServer,
  type CrashServerOptions,
} from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf, processOf, type Role } from '../support/host/processes.ts';

/** The bound for one request: the hellos without an answer, each with the pause before it, and 6 s for the work. */
const frozenMs = limits.workerPulsesMissedMax * (limits.workerPulseMs + limits.helloTimeoutMs) + 6_000;
const size = { image: 'base', cpu: 2, memory_mb: 128 };

let server: CrashServer;
const frozen = new Set<number>();
afterEach(async () => {
  for (const pid of frozen) killQuietly(pid, 'SIGCONT');
  frozen.clear();
  await server.close();
});

async function start(options: CrashServerOptions = {}): Promise<void> {
  server = await startCrashServer({ args: ['--workers', '0'], ...options });
}

/** Freezes a process. The returned function lets it go on. */
async function freeze(role: Role, box?: string): Promise<() => void> {
  const { pid } = await processOf(server.stateDir, role, box);
  process.kill(pid, 'SIGSTOP');
  frozen.add(pid);
  return () => killQuietly(pid, 'SIGCONT');
}

/** Waits until the database says that the box is in `state`. Clients do not see this state. */
async function untilState(boxId: string, state: string): Promise<void> {
  await eventually(`box ${boxId} is ${state}`, async () => stateOf(boxId) === state);
}

function stateOf(boxId: string): string | null {
  const reader = openReader(join(server.stateDir, 'boxrun.db'));
  try {
    return reader.boxRows().find(({ id }) => id === boxId)?.state ?? null;
  } finally {
    reader.close();
  }
}

async function run(box: string, command: string): Promise<string> {
  return (await collect(server.client, await server.client.startExec(box, { cmd: ['sh', '-c', command] }))).stdout;
}

function codeOf(error: unknown): string {
  return error instanceof BoxRunError ? error.code : String(error);
}

describe('when a worker is killed', () => {
  it('while it stops its box, another worker finishes the stop', async () => {
    await start({ env: { BOXRUN_MAX_CPU: '2' } });
    const { client } = server;
    const box = await client.create(size);
    // This process ignores TERM, so the stop takes the whole grace.
    await run(box.id, 'echo kept > /root/file; trap "" TERM; sleep 1000 </dev/null >/dev/null 2>&1 &');
    const stopped = client.stopBox(box.id);
    await untilState(box.id, 'stopping');
    await server.kill('worker', box.id);
    expect(await stopped).toMatchObject({ status: 'stopped', error_code: null });
    await client.removeBox((await client.create(size)).id, { force: true }); // Its share is free.
    await client.startBox(box.id);
    expect(await run(box.id, 'cat /root/file; ps | grep -c "[s]leep 1000"')).toBe('kept\n0\n');
  });

  it('while it removes its box, another worker finishes the removal', async () => {
    await start();
    const { client } = server;
    const box = await client.create({ ...size, name: 'half' });
    await freeze('worker', box.id);
    const removed = client.removeBox(box.id, { force: true });
    await untilState(box.id, 'removing');
    await server.kill('worker', box.id);
    await removed;
    expect(await client.listBoxes()).toEqual([]);
    expect(readdirSync(join(server.stateDir, 'boxes'))).toEqual([]);
    await client.create({ ...size, name: 'half' });
  });

  it('while it starts its box, another worker starts the box', async () => {
    await start({ args: ['--workers', '1'] });
    const { client } = server;
    const box = await client.create(size);
    await run(box.id, 'echo kept > /root/file');
    await client.stopBox(box.id);
    const spares = async () => (await processesOf(server.stateDir)).filter((entry) => entry.box === 'spare').length;
    await eventually('a spare is there', async () => (await spares()) === 1);
    await freeze('worker', 'spare');
    const started = client.startBox(box.id);
    await eventually('the spare is used, and another one is there', async () => (await spares()) === 2);
    expect(stateOf(box.id)).toBe('starting');
    for (const pid of frozen) process.kill(pid, 'SIGKILL');
    expect(await started).toMatchObject({ status: 'running', error_code: null });
    expect(await run(box.id, 'cat /root/file')).toBe('kept\n');
  });
});

describe('when a worker hangs', () => {
  it('its box can still be stopped or removed', async () => {
    await start();
    const { client } = server;
    const [one, two] = [await client.create(size), await client.create(size)];
    for (const { id } of [one, two]) await freeze('worker', id);
    const startedAt = performance.now();
    const [stopped] = await Promise.all([client.stopBox(one.id), client.removeBox(two.id, { force: true })]);
    expect(performance.now() - startedAt).toBeLessThan(frozenMs);
    expect(stopped.status).toBe('stopped');
    expect((await client.listBoxes()).map(({ id }) => id)).toEqual([one.id]);
    expect((await processesOf(server.stateDir)).filter(({ role }) => role === 'worker')).toEqual([]);
    await client.startBox(one.id);
    expect(await run(one.id, 'echo back')).toBe('back\n');
  });

  it('while it creates a box, the box can still be removed by force', async () => {
    await start();
    const registry = createServer(() => undefined); // Never answers, so the create goes on.
    await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve));
    const { port } = registry.address() as { port: number };
    const creating = server.client.create({ image: `127.0.0.1:${port}/library/nothing:1`, name: 'half' }).then(
      () => null,
      (error: unknown) => error,
    );
    const worker = await eventually('a worker has the box', async () =>
      (await processesOf(server.stateDir)).find(({ role, box }) => role === 'worker' && box !== 'spare'),
    );
    await freeze('worker', worker.box ?? undefined);
    const startedAt = performance.now();
    await server.client.removeBox('half', { force: true }).catch((error: unknown) => {
      if (codeOf(error) !== 'BOX_NOT_FOUND') throw error; // The create may have been undone already.
    });
    expect(performance.now() - startedAt).toBeLessThan(limits.cancelTimeoutMs + 5_000);
    expect(await creating).toBeInstanceOf(BoxRunError);
    expect(await server.client.listBoxes()).toEqual([]);
    registry.close();
  });
});

describe('when an engine cannot be killed', () => {
  it('the box goes to error and keeps its quota until the engine has ended, then it stops and starts', async () => {
    await start({ env: { BOXRUN_MAX_CPU: '2' } });
    const { client } = server;
    const box = await client.create({ ...size, name: 'held' });
    await client.startExec(box.id, { cmd: ['sleep', '1000'], env: { MARKER: `held-${box.id}` } });
    const init = await initOf(await pidInBox(`MARKER=held-${box.id}`));
    // While this file is open, the kernel cannot unmount the disk of the box.
    const held = openSync(`/proc/${init}/root/root/held`, 'w');
    try {
      expect(await client.stopBox(box.id).then(() => null, codeOf)).toBe('TIMEOUT');
      expect(await client.getBox(box.id)).toMatchObject({ status: 'error', error_code: 'TIMEOUT', name: 'held' });
      expect(await client.create(size).then(() => null, codeOf)).toBe('RESOURCE_EXCEEDED');
      await server.kill('supervisor');
      await eventually(
        'the next supervisor counts it too',
        async () => (await client.create(size).then(() => null, codeOf)) === 'RESOURCE_EXCEEDED',
      );
    } finally {
      closeSync(held);
    }
    // The next supervisor tries again by itself.
    const other = await eventually('its share is free', () => client.create(size).catch(() => null), 60_000);
    expect((await client.getBox(box.id)).status).toBe('error');
    await client.removeBox(other.id, { force: true });
    expect((await client.stopBox(box.id)).status).toBe('stopped');
    expect(await client.stopBox(box.id).then(() => null, codeOf)).toBe('BOX_NOT_RUNNING');
    expect((await client.startBox(box.id)).status).toBe('running');
  });
});

/** Only with version 1 of control groups can a process in a nested group escape the kill of its command. */
const freezer = '/sys/fs/cgroup/freezer';
describe.runIf(existsSync(freezer))('when a command cannot be killed', () => {
  it('its box is ended and goes to error, its quota is free, and no process of the box is left', async () => {
    await start({ env: { BOXRUN_MAX_CPU: '2' } });
    const { client } = server;
    const box = await client.create(size);
    const exec = await client.startExec(box.id, { cmd: ['sleep', '1000'] });
    const group = readdirSync(freezer, { recursive: true, encoding: 'utf8' }).find((path) =>
      path.endsWith(`/${exec.id}`),
    );
    const hidden = join(freezer, group ?? 'none', 'hidden');
    mkdirSync(hidden);
    const resisting = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const ended = once(resisting, 'exit');
    writeFileSync(join(hidden, 'cgroup.procs'), String(resisting.pid));
    expect(await client.cancelExec(box.id, exec.id).then(() => null, codeOf)).toBe('TIMEOUT');
    const failed = await eventually(
      'the box is in error',
      async () => {
        const now = await client.getBox(box.id);
        return now.status === 'error' && now;
      },
      2 * limits.killTimeoutMs,
    );
    expect(failed).toMatchObject({ error_code: 'TIMEOUT', error_message: expect.stringContaining(exec.id) as string });
    await ended; // The end of the box has killed the process.
    expect((await client.getExec(box.id, exec.id)).status).not.toBe('running');
    await client.removeBox((await client.create(size)).id, { force: true });
    expect((await client.startBox(box.id)).status).toBe('running');
  });
});

describe('when the writer does not answer', () => {
  it('it is replaced, and a waiting create succeeds or leaves no row and no name behind', async () => {
    await start({ env: { BOXRUN_MAX_CPU: '2' } });
    const { client } = server;
    const goOn = await freeze('writer');
    const created = await client.create({ ...size, name: 'late' }).catch(codeOf);
    goOn();
    const box =
      typeof created !== 'string'
        ? created
        : await eventually(
            'the name is free',
            () =>
              client.create({ ...size, name: 'late' }).catch((error: unknown) => {
                if (codeOf(error) !== 'UNAVAILABLE') throw error;
                return null;
              }),
            30_000,
          );
    expect((await client.listBoxes()).map(({ id, status }) => [id, status])).toEqual([[box.id, 'running']]);
    expect(await run(box.id, 'echo here')).toBe('here\n');
  });

  it('while a box is stopped, no output of its commands is lost', async () => {
    await start();
    const { client } = server;
    const box = await client.create(size);
    // The command writes to a file how many lines it has printed.
    const counting =
      'i=0; while true; do echo line-$i; i=$((i+1)); echo $i > /root/new; mv /root/new /root/printed; sleep 0.01; done';
    const exec = await client.startExec(box.id, { cmd: ['sh', '-c', counting] });
    await eventually('it prints', async () => eventCount(exec.id) > 5);
    const workerGoesOn = await freeze('worker', box.id);
    const stopped = client.stopBox(box.id);
    await untilState(box.id, 'stopping');
    const writerGoesOn = await freeze('writer');
    workerGoesOn();
    const spillDir = join(server.stateDir, 'spill');
    await eventually('the worker has spilled', async () =>
      readdirSync(spillDir).some((name) => name.endsWith('.spill')),
    );
    writerGoesOn();
    expect((await stopped).status).toBe('stopped');
    await client.startBox(box.id); // The box has a higher generation now.
    const { stdout, exit } = await collect(client, exec);
    const printed = Number(await run(box.id, 'cat /root/printed'));
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toEqual(lines.map((_, index) => `line-${index}`));
    expect(lines.length).toBeGreaterThanOrEqual(printed);
    expect(exit.error).toBe('the box was stopped'); // Not the error of a lost worker.
    expect(await client.getExec(box.id, exec.id)).toMatchObject({
      status: 'failed',
      error_message: 'the box was stopped',
    });
    expect(readdirSync(spillDir)).toEqual([]);
  });
});

/** Counts the committed events of a command. */
function eventCount(execId: string): number {
  const reader = openReader(join(server.stateDir, 'boxrun.db'));
  try {
    return reader.events(execId, -1).events.length;
  } finally {
    reader.close();
  }
}
