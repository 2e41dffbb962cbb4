// Tests a real server in which a process has no file descriptor left. Work that needs one is refused with an error that
// a client can act on, work in progress continues, and no process dies. When there are descriptors again, everything
// works, and no name and no quota stays taken.
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

/** Lowers the limit of a process so that it can open only `spare` more descriptors. The returned function raises it. */
async function takeDescriptors(pid: number, spare = 0): Promise<() => void> {
  const used = new Set((await readdir(`/proc/${pid}/fd`)).map(Number));
  let limit = 0; // New descriptors are the lowest free ones. Open ones above the limit stay open.
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
 * Returns null if the work succeeds, and otherwise the code and message of its error. The error must be from the
 * catalogue, and not an unexpected one.
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
  'the %s without descriptors fails only with a clear error, continues its work, and recovers',
  { timeout: 90_000 },
  async (role: Role) => {
    const { pid } = await processOf(server.stateDir, role, role === 'worker' ? box : undefined);
    const running = await server.client.startExec(box, counting(4_000));
    const giveBack = await takeDescriptors(pid);
    let outcomes: (string | null)[];
    try {
      outcomes = await Promise.all([
        attempt(() => server.client.create({ ...small, name: `new-${role}` }, { signal: AbortSignal.timeout(60_000) })),
        ...Array.from({ length: 5 }, () =>
          attempt(() => server.client.exec(box, ['true'], { signal: AbortSignal.timeout(60_000) })),
        ),
      ]);
    } finally {
      giveBack();
    }
    console.log(`${role} without descriptors: ${JSON.stringify([...new Set(outcomes)])}`);
    // The writer has already opened all that it needs.
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
    // Whether the box was created or not, its name and its quota must be as the list says.
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

it('the gateway closes connections for which it has no descriptor, serves the others, and recovers', async () => {
  const { pid } = await processOf(server.stateDir, 'gateway');
  const running = await server.client.startExec(box, counting(3_000));
  const following = collect(server.client, running);
  const giveBack = await takeDescriptors(pid, 10);
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
    expect((await following).stdout).toBe(counted(3_000)); // Its connection was open all the time.
  } finally {
    for (const socket of crowd) socket.destroy();
    giveBack();
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
