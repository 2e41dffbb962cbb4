// A process that has no file descriptor left: what needs one is refused with an error that a client can act on, what is
// under way goes on, nobody dies, and with descriptors everything works again, without a name or a share that stays
// taken.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BoxRun, BoxRunError } from '../../src/sdk/index.ts';
import { collect, counted, counting, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf, type Role } from '../support/host/processes.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };
const quotaCpu = 4;
let server: CrashServer;
let box: string;

beforeAll(async () => {
  server = await startCrashServer({ args: ['--workers', '0'], env: { BOXRUN_MAX_CPU: `${quotaCpu}` } });
  box = (await server.client.create({ ...small, name: 'old' })).id;
});
afterAll(async () => {
  await server.close();
});

/**
 * Takes from a process every descriptor that it does not use, but for `spare`; gives them back with what is returned.
 */
async function starve(pid: number, spare = 0): Promise<() => void> {
  const used = new Set((await readdir(`/proc/${pid}/fd`)).map(Number));
  let limit = 0; // New descriptors are the lowest free ones; those above stay as they are.
  for (let free = -1; free < spare; limit++) if (!used.has(limit)) free++;
  const [, before = ''] =
    /(\d+)\s+\d+\s*$/.exec(
      execFileSync('prlimit', ['--pid', `${pid}`, '--nofile', '--noheadings', '--output', 'SOFT,HARD'], {
        encoding: 'utf8',
      }),
    ) ?? [];
  execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${limit - 1}:`]);
  return () => {
    execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${before}:`]);
  };
}

/**
 * What an attempt came to: null, or the code of the error, which must be one of the catalogue and not an unexpected
 * one.
 */
async function attempt(work: () => Promise<unknown>): Promise<string | null> {
  try {
    await work();
    return null;
  } catch (error) {
    expect(error).toBeInstanceOf(BoxRunError);
    const { code, message } = error as BoxRunError;
    expect(message).not.toContain('unexpectedly');
    return `${code}: ${message}`;
  }
}

it.each(['supervisor', 'writer', 'worker'] as const)(
  'the %s refuses what it cannot do without descriptors, goes on with what it does, and recovers',
  { timeout: 90_000 },
  async (role: Role) => {
    const { pid } = await processOf(server.stateDir, role, role === 'worker' ? box : undefined);
    const running = await server.client.startExec(box, counting(4_000));
    const feed = await starve(pid);
    let outcomes: (string | null)[];
    try {
      outcomes = await Promise.all([
        attempt(() => server.client.create({ ...small, name: `new-${role}` }, { signal: AbortSignal.timeout(60_000) })),
        ...Array.from({ length: 5 }, () =>
          attempt(() => server.client.exec(box, ['true'], { signal: AbortSignal.timeout(60_000) })),
        ),
      ]);
    } finally {
      feed();
    }
    console.log(`${role} without descriptors: ${JSON.stringify([...new Set(outcomes)])}`);
    // The writer has opened all that it needs.
    expect(outcomes.some((outcome) => outcome !== null)).toBe(role !== 'writer');
    for (const outcome of outcomes)
      if (outcome !== null)
        expect(outcome).toBe('RESOURCE_EXCEEDED: a process of the server has no file descriptor left');
    expect((await processOf(server.stateDir, role, role === 'worker' ? box : undefined)).pid).toBe(pid);
    expect((await collect(server.client, running)).stdout).toBe(counted(4_000));
    await eventually(
      'commands run again',
      async () => (await server.client.exec(box, ['echo', 'again']).catch(() => null))?.stdout === 'again\n',
      20_000,
    );
    // Whether it was made or not, its name and its share are as the list says.
    const made = (await server.client.listBoxes()).filter(({ name }) => name === `new-${role}`);
    expect(made).toHaveLength(outcomes[0] === null ? 1 : 0);
    for (const { id } of made) await server.client.removeBox(id, { force: true });
    const all = await Promise.all(
      Array.from({ length: quotaCpu - 1 }, (_, index) =>
        eventually(
          'a box can be made',
          () => server.client.create({ ...small, name: index === 0 ? `new-${role}` : null }).catch(() => null),
          20_000,
        ),
      ),
    );
    await Promise.all(all.map(({ id }) => server.client.removeBox(id, { force: true })));
  },
);

it('the gateway cuts connections that it has no descriptor for, serves those that it has, and recovers', async () => {
  const { pid } = await processOf(server.stateDir, 'gateway');
  const running = await server.client.startExec(box, counting(3_000));
  const following = collect(server.client, running);
  const feed = await starve(pid, 10);
  const path = `${server.stateDir}/boxrun.sock`;
  const crowd: Socket[] = [];
  let cut = 0;
  try {
    for (let count = 0; count < 60; count++) {
      const socket = connect(path).on('error', () => undefined);
      socket.on('close', () => {
        cut++;
      });
      crowd.push(socket);
      await once(socket, 'connect');
    }
    await eventually('those past the limit are cut', async () => cut >= 40);
    const outsider = new BoxRun({ socketPath: path });
    expect(await attempt(() => outsider.info())).toMatch(/^UNAVAILABLE/);
    await outsider.close();
    expect((await following).stdout).toBe(counted(3_000)); // On its connection, all the time.
  } finally {
    for (const socket of crowd) socket.destroy();
    feed();
  }
  const outsider = new BoxRun({ socketPath: path });
  await eventually('the next one is served', async () =>
    outsider.info().then(
      () => true,
      () => false,
    ),
  );
  await outsider.close();
  expect((await processOf(server.stateDir, 'gateway')).pid).toBe(pid);
});
