// Tests boxes over HTTP on a real server, over TCP and over the Unix socket: the JSON objects, validation, names, quota
// and states.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box } from '../../src/shared/api.ts';
import { startServer, type Answer, type TestServer } from '../support/servers/server.ts';

const boxFields = [
  'id',
  'name',
  'status',
  'image',
  'cpu',
  'cpu_limit',
  'memory_mb',
  'disk_size_gb',
  'network',
  'workdir',
  'env',
  'volumes',
  'boxlite_id',
  'error_code',
  'error_message',
  'created_at',
  'started_at',
  'stopped_at',
  'labels',
  'ulimits',
  'stop_grace_s',
];
const small = { image: 'base', cpu: 1, memory_mb: 64 };
let server: TestServer;

beforeAll(async () => {
  server = await startServer({ maxCpu: 4, maxMemoryMb: 4096 });
});
afterAll(async () => {
  await server.close();
});

const create = (body: unknown, via: 'tcp' | 'socket' = 'tcp') =>
  server.call({ method: 'POST', path: '/v1/boxes', body, via });
const remove = (id: string) => server.call({ method: 'DELETE', path: `/v1/boxes/${id}?force=true` });

function expectError(answer: Answer, status: number, code: string): string {
  expect({ status: answer.status, code: answer.json.code }).toEqual({ status, code });
  expect(answer.headers['content-type']).toContain('application/json');
  expect(Object.keys(answer.json).every((key) => ['code', 'message', 'hint'].includes(key))).toBe(true);
  return answer.json.message ?? '';
}

describe.each(['tcp', 'socket'] as const)('over %s', (via) => {
  it('a box can be created, stopped, started and removed', async () => {
    const created = await create({ ...small, name: `life-${via}`, env: { A: '1', BOXRUN_SECRET: 'x' } }, via);
    expect(created.status).toBe(201);
    const box = created.json as Box;
    expect(Object.keys(box).sort()).toEqual([...boxFields].sort());
    expect(box).toMatchObject({
      name: `life-${via}`,
      status: 'running',
      image: 'base',
      cpu: 1,
      memory_mb: 64,
      disk_size_gb: 8,
      network: false,
      workdir: '/root',
      env: { A: '1' },
      volumes: null,
      error_code: null,
      error_message: null,
      stopped_at: null,
    });
    expect(box.id).toMatch(/^box_[A-Za-z0-9_-]{12}$/);
    expect(new Date(box.created_at).toISOString()).toBe(box.created_at);
    expect(box.started_at).not.toBeNull();

    const byName = await server.call({ path: `/v1/boxes/life-${via}`, via });
    expect(byName.json).toEqual((await server.call({ path: `/v1/boxes/${box.id}`, via })).json);
    const stopped = await server.call({ method: 'POST', path: `/v1/boxes/life-${via}:stop`, via });
    expect(stopped.status).toBe(200);
    expect(stopped.json).toMatchObject({ id: box.id, status: 'stopped' });
    expect((stopped.json as Box).stopped_at).not.toBeNull();
    expectError(await server.call({ method: 'POST', path: `/v1/boxes/${box.id}:stop`, via }), 400, 'BOX_NOT_RUNNING');
    // Some clients send a JSON content type without a body.
    const headers = { 'content-type': 'application/json' };
    const started = await server.call({ method: 'POST', path: `/v1/boxes/${box.id}:start`, headers, via });
    expect(started.json).toMatchObject({ id: box.id, status: 'running' });
    expectError(
      await server.call({ method: 'POST', path: `/v1/boxes/${box.id}:start`, via }),
      409,
      'BOX_ALREADY_RUNNING',
    );
    expectError(await server.call({ method: 'DELETE', path: `/v1/boxes/${box.id}`, via }), 409, 'BOX_ALREADY_RUNNING');
    const removed = await server.call({ method: 'DELETE', path: `/v1/boxes/${box.id}?force=true`, via });
    expect({ status: removed.status, body: removed.json }).toEqual({ status: 200, body: { ok: true } });
    expectError(await server.call({ path: `/v1/boxes/${box.id}`, via }), 404, 'BOX_NOT_FOUND');
  });

  it('the server reports its limits', async () => {
    const info = await server.call({ path: '/v1/info', via });
    expect(info.json).toMatchObject({ max_cpu: 4, max_memory_mb: 4096 });
  });
});

it('a list of boxes begins with the newest, and can be filtered by status', async () => {
  const first = (await create({ ...small, name: 'first' })).json as Box;
  const second = (await create({ ...small, name: 'second' })).json as Box;
  await server.call({ method: 'POST', path: `/v1/boxes/${first.id}:stop` });
  const names = async (query: string) =>
    ((await server.call({ path: `/v1/boxes${query}` })).list as Box[]).map(({ name }) => name);
  expect(await names('')).toEqual(['second', 'first']);
  expect(await names('?status=all')).toEqual(['second', 'first']);
  expect(await names('?status=running')).toEqual(['second']);
  expect(await names('?status=stopped')).toEqual(['first']);
  expect(await names('?status=error')).toEqual([]);
  expectError(await server.call({ path: '/v1/boxes?status=gone' }), 422, 'VALIDATION_ERROR');
  await remove(first.id);
  await remove(second.id);
});

it('a GET or DELETE ignores an action in the path, and a POST needs a known action', async () => {
  const box = (await create(small)).json as Box;
  expect((await server.call({ path: `/v1/boxes/${box.id}:stop` })).json).toMatchObject({
    id: box.id,
    status: 'running',
  });
  expectError(await server.call({ method: 'POST', path: `/v1/boxes/${box.id}:explode` }), 400, 'VALIDATION_ERROR');
  expectError(await server.call({ method: 'POST', path: `/v1/boxes/${box.id}:` }), 400, 'VALIDATION_ERROR');
  expectError(await server.call({ method: 'POST', path: `/v1/boxes/${box.id}` }), 400, 'VALIDATION_ERROR');
  expect((await server.call({ method: 'DELETE', path: `/v1/boxes/${box.id}:stop?force=true` })).status).toBe(200);
});

describe('the body of a create', () => {
  it.each([
    ['no image', {}, "'image' is missing"],
    ['an empty image', { image: '' }, "'image' must be the name of an image"],
    ['a number as text', { ...small, cpu: '2' }, "'cpu' must be a whole number from 1 to 255"],
    ['no CPU', { ...small, cpu: 0 }, "'cpu' must be a whole number"],
    ['half a CPU', { ...small, cpu: 0.5 }, "'cpu' must be a whole number"],
    ['too much disk', { ...small, disk_size_gb: 65_537 }, "'disk_size_gb' must be a whole number from 1 to 65536"],
    ['a relative workdir', { ...small, workdir: 'root' }, "'workdir' must be an absolute path"],
    ['a name with a blank', { ...small, name: 'a b' }, "'name' must be 1 to 63 letters"],
    ['a name with an action', { ...small, name: 'web:stop' }, "'name' must be"],
    ['a name of 64 characters', { ...small, name: 'n'.repeat(64) }, "'name' must be"],
    ['a name like an id', { ...small, name: 'box_abcdefghijkl' }, "'name' must not have the form of a box id"],
    ['an environment key with =', { ...small, env: { 'A=B': 'x' } }, "'env' must be an object of texts"],
    ['an environment value that is a number', { ...small, env: { A: 1 } }, "'env' must be an object of texts"],
    [
      'a relative volume',
      { ...small, volumes: [{ host_path: 'a', guest_path: '/b' }] },
      "'volumes.0.host_path' must be",
    ],
    [
      'a volume without guest path',
      { ...small, volumes: [{ host_path: '/tmp' }] },
      "'volumes.0.guest_path' is missing",
    ],
    ['network as text', { ...small, network: 'yes' }, "'network' must be true or false"],
    ['a list', [], 'the body must be a JSON object'],
    ['invalid JSON', '{"image":', 'the body is no JSON'],
  ])('is refused with %s', async (_, body, message) => {
    expect(expectError(await create(body), 422, 'VALIDATION_ERROR')).toContain(message);
  });

  it('can have unknown fields, and null for an optional field', async () => {
    const answer = await create({ ...small, colour: 'blue', name: null, env: null, volumes: null });
    expect(answer.status).toBe(201);
    await remove((answer.json as Box).id);
  });
});

it('a create with a missing host path of a volume fails, and leaves no box behind', async () => {
  const body = { ...small, name: 'volume', volumes: [{ host_path: '/does/not/exist', guest_path: '/mnt' }] };
  expect(expectError(await create(body), 400, 'RUNTIME_ERROR')).toContain('/does/not/exist');
  expect((await server.call({ path: '/v1/boxes' })).json).toEqual([]);
});

it('two boxes cannot have the same name, and the name is free after the removal of its box', async () => {
  const box = (await create({ ...small, name: 'taken' })).json as Box;
  expectError(await create({ ...small, name: 'taken' }), 409, 'NAME_ALREADY_EXISTS');
  await server.call({ method: 'POST', path: `/v1/boxes/taken:stop` });
  expectError(await create({ ...small, name: 'taken' }), 409, 'NAME_ALREADY_EXISTS');
  await remove(box.id);
  const again = await create({ ...small, name: 'taken' });
  expect(again.status).toBe(201);
  await remove((again.json as Box).id);
});

it('running boxes never have more CPUs or memory than the limits, even with parallel creates', async () => {
  const answers = await Promise.all(Array.from({ length: 8 }, () => create(small)));
  const good = answers.filter(({ status }) => status === 201);
  const refused = answers.filter(({ status }) => status !== 201);
  expect(good).toHaveLength(4);
  for (const answer of refused) {
    expect(expectError(answer, 409, 'RESOURCE_EXCEEDED')).toBeTruthy();
    expect(answer.text).toContain('BOXRUN_MAX_CPU');
  }
  // A stopped box does not count. Its start has to fit into the limits again.
  const [first] = good.map(({ json }) => json as Box);
  await server.call({ method: 'POST', path: `/v1/boxes/${first?.id}:stop` });
  const fifth = await create(small);
  expect(fifth.status).toBe(201);
  expectError(await server.call({ method: 'POST', path: `/v1/boxes/${first?.id}:start` }), 409, 'RESOURCE_EXCEEDED');
  for (const { json } of [...good, fifth]) await remove((json as Box).id);
  expectError(await create({ ...small, memory_mb: 5000 }), 409, 'RESOURCE_EXCEEDED');
});

it('a create whose image cannot be pulled leaves its name and its quota free', async () => {
  const body = { ...small, cpu: 4, name: 'bad-image', image: '127.0.0.1:9/nothing:here' };
  expectError(await create(body), 400, 'IMAGE_PULL_FAILED');
  const again = await create({ ...small, cpu: 4, name: 'bad-image' });
  expect(again.status).toBe(201);
  await remove((again.json as Box).id);
});

it('a box keeps its disk over stop and start', async () => {
  const box = (await create({ ...small, name: 'disk' })).json as Box;
  const run = (script: string) => server.client.startExec(box.id, { cmd: ['sh', '-c', script] });
  await run('echo kept > /root/file');
  await server.call({ method: 'POST', path: '/v1/boxes/disk:stop' });
  await server.call({ method: 'POST', path: '/v1/boxes/disk:start' });
  const texts: string[] = [];
  for await (const event of server.client.execEvents(await run('cat /root/file'))) {
    if (event.type === 'log') texts.push(event.text);
  }
  expect(texts.join('')).toBe('kept\n');
  await remove(box.id);
});

it('a create with Accept: text/event-stream reports its steps, and ends with the box or an error', async () => {
  const answer = await server.call({
    method: 'POST',
    path: '/v1/boxes',
    body: small,
    headers: { accept: 'text/event-stream' },
  });
  expect(answer.headers['content-type']).toContain('text/event-stream');
  const last = answer.text.trimEnd().split('\n\n').at(-1) ?? '';
  expect(last).toMatch(/^event: box\ndata: \{/);
  const box = JSON.parse(last.slice(last.indexOf('{'))) as Box;
  expect(box.status).toBe('running');
  await remove(box.id);
  const failed = await server.call({
    method: 'POST',
    path: '/v1/boxes',
    body: { ...small, cpu: 5 },
    headers: { accept: 'text/event-stream' },
  });
  expect(failed.text).toContain('event: error\ndata: {"code":"RESOURCE_EXCEEDED"');
});

it('gc removes boxes that have been stopped for longer than the given time', async () => {
  const running = (await create({ ...small, name: 'running' })).json as Box;
  const stopped = (await create({ ...small, name: 'stopped' })).json as Box;
  await server.call({ method: 'POST', path: `/v1/boxes/${stopped.id}:stop` });
  expect((await server.call({ method: 'POST', path: '/v1/gc' })).json).toEqual({ removed: 0 });
  const answer = await server.call({ method: 'POST', path: '/v1/gc', body: { older_than: 0 } });
  expect({ status: answer.status, body: answer.json }).toEqual({ status: 200, body: { removed: 1 } });
  expectError(await server.call({ method: 'POST', path: '/v1/gc', body: { older_than: -1 } }), 422, 'VALIDATION_ERROR');
  expect((await server.call({ path: '/v1/boxes' })).json).toMatchObject([{ id: running.id }]);
  await remove(running.id);
});
