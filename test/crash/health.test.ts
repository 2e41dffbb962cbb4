// Tests /healthz, /readyz and heartbeats on a real server whose processes are killed or hang. A process that hangs is
// noticed, killed and replaced. Commands go on, and their output is complete.
import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import {
  collect,
  counted,
  counting,
  expectSameText,
  startCrashServer,
  type CrashServer,
} from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf, processOf, type Role } from '../support/host/processes.ts';
import { getLocal } from '../support/servers/local-http.ts';

/** The time until a process that hangs is reported: the missed heartbeats, and three more for a busy machine. */
const noticedMs = (limits.heartbeatDoubtMisses + 3) * limits.heartbeatEveryMs;
/** Shorter than the default, because half of these tests wait until this time has passed. */
const silenceMs = 4_000;
const endedMs = silenceMs + 6 * limits.heartbeatEveryMs;

interface Ready {
  readonly ok: boolean;
  readonly parts: Readonly<Record<string, boolean>>;
  readonly workers?: { readonly total: number; readonly silent: number };
}

let server: CrashServer;
beforeEach(async () => {
  server = await startCrashServer({ args: ['--workers', '0'], env: { BOXRUN_SILENCE_MS: String(silenceMs) } });
});
afterEach(async () => {
  await server.close();
});

const ask = (path: string) => getLocal(server.stateDir, path);

async function ready(): Promise<{ status: number; body: Ready } | null> {
  const answer = await ask('/readyz').catch(() => null); // There is no answer while no gateway runs.
  return answer === null ? null : { status: answer.status, body: JSON.parse(answer.text) as Ready };
}

async function untilReady(withinMs = 5_000): Promise<void> {
  await eventually('the server is ready', async () => (await ready())?.status === 200, withinMs);
}

async function stopProcess(role: Role, box?: string): Promise<number> {
  const { pid } = await processOf(server.stateDir, role, box);
  process.kill(pid, 'SIGSTOP');
  return pid;
}

const replaced = (role: Role, pid: number) =>
  eventually(
    `another ${role} is there`,
    async () => (await processesOf(server.stateDir)).some((entry) => entry.role === role && entry.pid !== pid),
    endedMs,
  );

const log = (name: string) => readFile(`${server.stateDir}/logs/${name}.log`, 'utf8');

describe('while all processes run', () => {
  it('/healthz and /readyz answer 200, and /readyz lists the parts of the server', async () => {
    expect(await ask('/healthz')).toMatchObject({ status: 200, text: '{"ok":true}' });
    expect(await ready()).toEqual({
      status: 200,
      body: {
        ok: true,
        parts: { supervisor: true, writer: true, database: true, disk: true },
        workers: { total: 0, silent: 0 },
      },
    });
  });
});

describe('when a process is killed', () => {
  it.each(['supervisor', 'writer'] as const)('/readyz answers 503 until it is back: %s', async (role) => {
    // The test freezes the keeper, so that the keeper does not start the process again while the test looks.
    const keeper = await stopProcess('keeper');
    await server.kill(role);
    const down = await eventually('/readyz reports it as down', async () => {
      const now = await ready();
      return now?.body.parts[role] === false && now;
    });
    expect(down.status).toBe(503);
    expect(down.body.ok).toBe(false);
    const other = role === 'writer' ? 'supervisor' : 'writer';
    expect(down.body.parts[other]).toBe(true);
    expect((await ask('/healthz')).status).toBe(200);
    process.kill(keeper, 'SIGCONT');
    await untilReady();
  });
});

describe('when a process hangs', () => {
  it.each(['supervisor', 'writer'] as const)('/readyz reports it, and the keeper replaces it: %s', async (role) => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const exec = await server.client.startExec(box.id, { cmd: counting(6_000) });
    const output = collect(server.client, exec);
    const pid = await stopProcess(role);
    const doubted = await eventually(
      '/readyz reports that it does not answer',
      async () => {
        const now = await ready();
        return now?.body.parts[role] === false && now;
      },
      noticedMs,
    );
    expect(doubted.status).toBe(503);
    await replaced(role, pid);
    await untilReady();
    expect(await log('keeper')).toContain('no sign of life');
    const { stdout, exit } = await output;
    expectSameText(stdout, counted(6_000));
    expect(exit.exitCode).toBe(0);
  });

  it('the keeper replaces it, and no output is lost: gateway', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const exec = await server.client.startExec(box.id, { cmd: counting(3_000) });
    const pid = await stopProcess('gateway');
    await replaced('gateway', pid);
    await untilReady();
    expect(await log('keeper')).toContain('no sign of life');
    expectSameText((await collect(server.client, exec)).stdout, counted(3_000));
  });

  it('/readyz counts it as silent, and its box runs on under another worker: worker', async () => {
    const { client } = server;
    const box = await client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const exec = await client.startExec(box.id, { cmd: ['sleep', '1000'] });
    const output = collect(client, exec);
    const pid = await stopProcess('worker', box.id);
    await eventually('/readyz counts it', async () => (await ready())?.body.workers?.silent === 1, noticedMs);
    expect((await ready())?.status).toBe(200); // The server is still ready for other boxes.
    await replaced('worker', pid);
    await eventually('its box takes commands', async () => {
      const again = await client.startExec(box.id, { cmd: ['echo', 'again'] }).catch(() => null);
      return again !== null && (await collect(client, again)).stdout === 'again\n';
    });
    expect((await client.cancelExec(box.id, exec.id)).status).toBe('canceled');
    expect((await output).exit.error).toBe('canceled');
    expect((await ready())?.body.workers).toEqual({ total: 1, silent: 0 });
    expect(await log('supervisor')).toContain('a worker hangs');
  });

  it('that a dead keeper has left behind, the next serve replaces it: writer', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    await server.kill('keeper');
    await eventually('supervisor and gateway are gone', async () =>
      (await processesOf(server.stateDir)).every(({ role }) => role === 'worker' || role === 'writer'),
    );
    const pid = await stopProcess('writer');
    await server.serve();
    expect((await processOf(server.stateDir, 'writer')).pid).not.toBe(pid);
    expect((await server.client.getBox(box.id)).status).toBe('running');
  });
});
