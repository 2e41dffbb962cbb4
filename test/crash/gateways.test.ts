// Tests several gateways on one port of a real server: each gateway takes connections, each reports the metrics of all,
// and the port stays open when one of them dies.
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

/** Sends a request on a new TCP connection, so that the kernel chooses the gateway. */
async function ask({ port }: TestServer, path: string): Promise<{ status: number; text: string }> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } });
  return { status: answer.status, text: await answer.text() };
}

/** Reads a link. Returns an empty string if the process has closed the descriptor in the meantime. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** Counts the connections that a process has accepted on the port. */
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
  it('share the connections of one port, and each of them reports the metrics of all', async () => {
    const running = await start(3);
    const pids = await gatewaysOf(running);
    expect(pids).toHaveLength(3);
    const streams = new AbortController();
    const open: Response[] = []; // Keeps the responses: garbage collection closes an unused one.
    // The kernel gives each connection to the first gateway that accepts it. So the share of each gateway is not fixed.
    await eventually(
      'each gateway has a connection',
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
    // Each gateway counts its own streams, and gets the counts of the others through the supervisor.
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

  it('keep the port open when one of them is killed, and the keeper starts another one', async () => {
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

  it('end when the keeper dies, and the next serve starts the same number', async () => {
    const running = await start(2);
    const { id } = await running.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const keeper = (await processesOf(running.stateDir)).find(({ role }) => role === 'keeper');
    process.kill(keeper?.pid ?? 0, 'SIGKILL');
    await eventually('both are gone', async () => (await gatewaysOf(running)).length === 0);
    await running.start();
    expect(await gatewaysOf(running)).toHaveLength(2);
    expect(JSON.parse((await ask(running, `/v1/boxes/${id}`)).text)).toMatchObject({ id, status: 'running' });
  });

  it('all check the token, and all know every box', async () => {
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
