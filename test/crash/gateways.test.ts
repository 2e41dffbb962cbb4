// Several gateways on one port: each takes clients, all tell what any of them has counted, and the port outlives each
// of them.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer | null = null;
afterEach(async () => {
  await server?.close();
  server = null;
});

async function start(gateways: number): Promise<TestServer> {
  server = await startServer({ args: ['--gateways', String(gateways)] });
  return server;
}

const gatewaysOf = async ({ stateDir }: TestServer) =>
  (await processesOf(stateDir)).filter(({ role }) => role === 'gateway').map(({ pid }) => pid);

/** By TCP, each request on a connection of its own: the kernel chooses the gateway. */
async function ask({ port }: TestServer, path: string): Promise<{ status: number; text: string }> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } });
  return { status: answer.status, text: await answer.text() };
}

/** Empty for a descriptor that has been closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** How many connections a process has that came by the port. */
function connectionsOf(pid: number, port: number): number {
  const own = new Set(readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`)));
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  return lines.filter(
    ([, address, , state, , , , , , inode]) => address === local && state === '01' && own.has(`socket:[${inode}]`),
  ).length;
}

describe('several gateways', () => {
  it('share the clients of one port, and each tells the figures of all', async () => {
    const running = await start(3);
    const pids = await gatewaysOf(running);
    expect(pids).toHaveLength(3);
    const streams = new AbortController();
    const open: Response[] = []; // Held: an answer that nobody holds is closed when garbage is collected.
    // The kernel gives a connection to whoever takes it first: how many each gets is nobody's promise.
    await eventually(
      'each has taken some',
      async () => {
        const answers = await Promise.all(
          Array.from({ length: 20 }, () =>
            fetch(`http://127.0.0.1:${running.port}/v1/events`, { signal: streams.signal }),
          ),
        );
        expect(answers.every(({ status }) => status === 200)).toBe(true);
        open.push(...answers);
        return pids.every((pid) => connectionsOf(pid, running.port) > 0);
      },
      30_000,
    );
    expect(pids.reduce((sum, pid) => sum + connectionsOf(pid, running.port), 0)).toBeGreaterThanOrEqual(open.length);
    // Whoever is asked knows of the streams of all: one by its own count, the others by what was reported.
    await eventually(
      'every answer counts all streams',
      async () => {
        const answers = await Promise.all(Array.from({ length: 6 }, () => ask(running, '/metrics')));
        return answers.every(({ text }) => Number(/^boxrun_http_requests_open (\d+)/m.exec(text)?.[1]) >= open.length);
      },
      20_000,
    );
    streams.abort();
  });

  it('keep the port open when one of them is killed, and are as many as before soon after', async () => {
    const running = await start(2);
    for (const pid of await gatewaysOf(running)) {
      process.kill(pid, 'SIGKILL');
      await eventually('it is gone', async () => !(await gatewaysOf(running)).includes(pid));
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(running, '/v1/info')));
      expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
      await eventually('there are two again', async () => (await gatewaysOf(running)).length === 2);
      await eventually(
        'the socket answers',
        async () => (await running.call({ path: '/v1/info', via: 'socket' }).catch(() => null))?.status === 200,
      );
    }
    expect((await ask(running, '/metrics')).text).toMatch(/^boxrun_restarts\{process="gateway"\} 2$/m);
  });

  it('go with the keeper, and the next one has as many', async () => {
    const running = await start(2);
    const { id } = await running.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const keeper = (await processesOf(running.stateDir)).find(({ role }) => role === 'keeper');
    process.kill(keeper?.pid ?? 0, 'SIGKILL');
    await eventually('both are gone', async () => (await gatewaysOf(running)).length === 0);
    await running.start();
    expect(await gatewaysOf(running)).toHaveLength(2);
    expect(JSON.parse((await ask(running, `/v1/boxes/${id}`)).text)).toMatchObject({ id, status: 'running' });
  });

  it('take a token, and boxes, like one', async () => {
    const token = 'a-token-for-this-test-alone';
    server = await startServer({ args: ['--gateways', '2'], env: { BOXRUN_TOKEN: token } });
    const { port } = server;
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    for (let count = 0; count < 12; count++) {
      const url = `http://127.0.0.1:${port}/v1/boxes/${box.id}`;
      expect((await fetch(url, { headers: { connection: 'close' } })).status).toBe(401);
      const answer = await fetch(url, { headers: { connection: 'close', authorization: `Bearer ${token}` } });
      expect(await answer.json()).toMatchObject({ id: box.id, status: 'running' });
    }
  });
});
