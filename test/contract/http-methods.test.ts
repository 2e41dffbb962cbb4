// Tests HTTP conventions on a real server: HEAD is like GET without a body, OPTIONS and 405 list the methods in Allow,
// a slash at the end does not matter, and Server-Timing has the stages.
import { createServer } from 'node:net';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { parseSse, startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let box: string;
let exec: string;

beforeAll(async () => {
  server = await startServer();
  box = (await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 })).id;
  exec = (await server.client.startExec(box, { cmd: ['true'] })).id;
});
afterAll(async () => {
  await server.close();
});

it('HEAD has the status and type of GET, without a body', async () => {
  for (const path of [
    '/v1/info',
    '/v1/images',
    '/v1/boxes',
    `/v1/boxes/${box}`,
    `/v1/boxes/${box}/execs`,
    `/v1/boxes/${box}/exec/${exec}`,
    `/v1/boxes/${box}/exec/${exec}/events`,
    '/healthz',
    '/ui',
    '/docs',
    '/openapi.json',
    '/',
    '/v1/boxes/nobody',
  ]) {
    const [head, get] = await Promise.all([server.call({ method: 'HEAD', path }), server.call({ path })]);
    expect([path, head.status, head.headers['content-type'], head.text]).toEqual([
      path,
      get.status,
      get.headers['content-type'],
      '',
    ]);
  }
});

it('OPTIONS and 405 list the methods of a path in Allow', async () => {
  for (const [path, allow] of [
    ['/v1/boxes', 'GET, HEAD, OPTIONS, POST'],
    [`/v1/boxes/${box}`, 'DELETE, GET, HEAD, OPTIONS, PATCH, POST'],
    ['/v1/run', 'OPTIONS, POST'],
    ['/openapi.json', 'GET, HEAD, OPTIONS'],
  ] as const) {
    const options = await server.call({ method: 'OPTIONS', path });
    expect([options.status, options.headers.allow?.split(', ').sort().join(', '), options.text]).toEqual([
      204,
      allow,
      '',
    ]);
    for (const method of ['PUT', 'PATCH', 'TRACE'].filter((name) => !allow.includes(name))) {
      const refused = await server.call({ method, path });
      expect([refused.status, refused.json.code]).toEqual([405, 'METHOD_NOT_ALLOWED']);
      expect(refused.headers.allow?.split(', ').sort().join(', ')).toBe(allow);
    }
  }
  expect((await server.call({ method: 'OPTIONS', path: '/nowhere' })).status).toBe(404);
});

it('a slash at the end of a path changes nothing', async () => {
  for (const path of ['/v1/boxes/', '/v1/info/', `/v1/boxes/${box}/`, '/docs/'])
    expect((await server.call({ path })).status, path).toBe(200);
});

it('create, start and exec report the times of their stages', async () => {
  const stages = (answer: { headers: Record<string, unknown> }) =>
    String(answer.headers['server-timing'])
      .split(', ')
      .map((entry) => /^(\w+);dur=\d+\.\d$/.exec(entry)?.[1]);
  const created = await server.call({
    method: 'POST',
    path: '/v1/boxes',
    body: { image: 'base', cpu: 1, memory_mb: 64 },
  });
  expect(stages(created)).toEqual([
    'validate',
    'supervisor',
    'admit',
    'worker',
    'image',
    'turn',
    'create',
    'start',
    'commit',
    'total',
  ]);
  expect(created.json).not.toHaveProperty('timings');
  // The headers of a stream are sent before the work is done. So the times are an event there, just before the box.
  const streamed = await server.call({
    method: 'POST',
    path: '/v1/boxes',
    body: { image: 'base', cpu: 1, memory_mb: 64 },
    headers: { accept: 'text/event-stream' },
  });
  const [timing, box] = parseSse(streamed.text).slice(-2);
  expect([timing?.event, box?.event]).toEqual(['timing', 'box']);
  const times = JSON.parse(timing?.data ?? '') as Record<string, number>;
  expect(Object.keys(times)).toEqual(stages(created));
  expect(times['total']).toBeGreaterThan(0);
  expect(times['supervisor']).toBeLessThanOrEqual(times['total'] ?? 0);
  expect(JSON.parse(box?.data ?? '')).not.toHaveProperty('timings');
  const path = `/v1/boxes/${created.json['id'] as string}`;
  expect(stages(await server.call({ method: 'POST', path: `${path}/exec`, body: { cmd: ['true'] } }))).toEqual([
    'validate',
    'supervisor',
    'worker',
    'spawn',
    'hold',
    'total',
  ]);
  await server.call({ method: 'POST', path: `${path}:stop` });
  expect(stages(await server.call({ method: 'POST', path: `${path}:start` }))).toContain('start');
});

it('a run whose client leaves while the image is pulled ends at once', async () => {
  // This registry accepts connections and never answers.
  const registry = createServer(() => undefined).listen(0, '127.0.0.1');
  await once(registry, 'listening');
  const { port } = registry.address() as { port: number };
  const leaving = new AbortController();
  const body = { image: `127.0.0.1:${port}/slow:1`, cmd: ['true'], cpu: 1, memory_mb: 64 };
  const running = server.call({ method: 'POST', path: '/v1/run', body, signal: leaving.signal }).catch(() => null);
  const asked = once(registry, 'connection');
  await asked;
  const leftAt = performance.now();
  leaving.abort();
  await running;
  await eventually('the box is gone', async () => !(await server.call({ path: '/v1/boxes' })).text.includes('/slow:1'));
  expect(performance.now() - leftAt).toBeLessThan(5_000);
  registry.close();
});
