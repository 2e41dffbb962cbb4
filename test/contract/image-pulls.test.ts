// Tests many creates of one image on a real server whose registry never answers: they wait for one pull, and fail
// together with it.
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.close());

it('ten creates that wait for the same pull fail together when it fails, and a later create pulls again', async () => {
  let hangs = true;
  const sockets = new Set<Socket>();
  const asked = { times: 0 };
  const registry = createServer((socket) => {
    asked.times += 1;
    sockets.add(socket);
    socket.on('error', () => undefined);
    if (!hangs) socket.destroy();
  }).listen(0, '127.0.0.1');
  await once(registry, 'listening');
  const { port } = registry.address() as AddressInfo;
  const body = { image: `127.0.0.1:${port}/hangs:1`, cpu: 1, memory_mb: 64 };
  const create = () => server.call({ method: 'POST', path: '/v1/boxes', body });
  try {
    const answers = Array.from({ length: 10 }, create);
    await eventually(
      'all boxes have a worker',
      async () => {
        const workers = await processesOf(server.stateDir);
        return workers.filter(({ role, box }) => role === 'worker' && box !== 'spare').length === 10;
      },
      30_000,
    );
    await eventually('the registry is asked', async () => asked.times > 0);
    expect(asked.times).toBe(1);
    hangs = false;
    const failedAt = performance.now();
    for (const socket of sockets) socket.destroy();
    for (const { status, json } of await Promise.all(answers))
      expect([status, json.code]).toEqual([400, 'IMAGE_PULL_FAILED']);
    expect(performance.now() - failedAt).toBeLessThan(10_000);
    // A pull asks by HTTPS and then by HTTP. Ten of them would ask twenty times. A create that reaches its pull after
    // the failure asks again, which a busy machine shows once or twice.
    expect(asked.times).toBeLessThan(10);

    const before = asked.times;
    expect((await create()).json.code).toBe('IMAGE_PULL_FAILED');
    expect(asked.times).toBeGreaterThan(before);
  } finally {
    registry.close();
  }
});
