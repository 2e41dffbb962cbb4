// Tests on a real server what becomes of fields that the API does not have: the answer names them in a header, and a
// client that prefers strict handling gets an error instead.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { prefersStrict } from '../../src/gateway/http/body.ts';
import { startServer, type Answer, type TestServer } from '../support/servers/server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };
const strict = { prefer: 'handling=strict' };

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

const post = (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> =>
  server.call({ method: 'POST', path, body, headers });

it('an unknown field is ignored, and a header of the answer names it', async () => {
  const answer = await post('/v1/boxes', { ...small, memroy_mb: 1, env: { ANY: 'name' }, labels: { any: 'key' } });
  expect(answer.status).toBe(201);
  expect(answer.headers['x-boxrun-warnings']).toBe('unknown field: "memroy_mb"');
  expect(answer.json).not.toHaveProperty('warnings');
  const id = answer.json['id'] as string;
  const exec = await post(`/v1/boxes/${id}/exec`, { cmd: ['true'], timeout: 5, shell: true });
  expect(exec.headers['x-boxrun-warnings']).toBe('unknown fields: "timeout", "shell"');
  const plain = await post(`/v1/boxes/${id}/exec`, { cmd: ['true'] });
  expect(plain.headers).not.toHaveProperty('x-boxrun-warnings');
  expect(plain.headers).not.toHaveProperty('preference-applied');
});

it('answers that are streams, answers of runs and errors name it, too', async () => {
  const run = { ...small, cmd: ['echo', 'hello'], comand: 1 };
  expect((await post('/v1/run', run)).headers['x-boxrun-warnings']).toBe('unknown field: "comand"');
  const streamed = await post('/v1/run', run, { accept: 'text/event-stream' });
  expect(streamed.headers['x-boxrun-warnings']).toBe('unknown field: "comand"');
  const failed = await post('/v1/boxes', { imgae: 'base' });
  expect(failed).toMatchObject({
    status: 422,
    json: { message: expect.stringContaining("'image' is missing") as string },
  });
  expect(failed.headers['x-boxrun-warnings']).toBe('unknown field: "imgae"');
});

it('strict handling refuses an unknown field of every request, with the fields that there are', async () => {
  const box = await server.client.create(small);
  const exec = await box.startExec(['sleep', '1000']);
  const path = `/v1/boxes/${box.id}`;
  const requests: readonly (readonly [string, object])[] = [
    ['/v1/boxes', small],
    [`${path}:stop`, {}],
    [`${path}:restart`, {}],
    [`${path}/exec`, { cmd: ['true'] }],
    [`${path}/exec/${exec.id}:signal`, { signal: 'TERM' }],
    [`${path}/files/download`, { path: '/etc/passwd' }],
    ['/v1/run', { ...small, cmd: ['true'] }],
    ['/v1/gc', {}],
  ];
  for (const [to, body] of requests) {
    const answer = await post(to, { ...body, misspelled: 1 }, strict);
    expect(answer, to).toMatchObject({
      status: 422,
      json: { code: 'VALIDATION_ERROR', message: 'unknown field: "misspelled"' },
    });
    expect(answer.headers['preference-applied']).toBe('handling=strict');
    expect(answer.json['hint']).toContain('the fields are ');
  }
  const changed = { method: 'PATCH', path, body: { cpu: 2 }, headers: strict };
  expect(await server.call(changed)).toMatchObject({ status: 422, json: { hint: 'the fields are name, labels' } });
  expect((await box.getExec(exec.id)).status).toBe('running');
});

it('strict handling takes a request without unknown fields', async () => {
  const answer = await post('/v1/run', { ...small, env: { A: 'b' }, cmd: ['true'] }, strict);
  expect(answer).toMatchObject({ status: 200, json: { exit_code: 0 } });
  expect(answer.headers['preference-applied']).toBe('handling=strict');
});

it('a field is named with its path, in ASCII, and only the first ten are named', async () => {
  const volumes = [{ host_path: '/tmp', guest_path: '/tmp', readOnly: true }];
  const nested = await post('/v1/boxes', { ...small, volumes }, strict);
  expect(nested.json.message).toBe('unknown field: "volumes.0.readOnly"');
  const odd = await post('/v1/gc', { 'a\r\nb é': 1, older_than: 1_000_000 });
  expect(odd).toMatchObject({ status: 200 });
  expect(odd.headers['x-boxrun-warnings']).toBe('unknown field: "a\\r\\nb \\u00e9"');
  const many = Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`${'x'.repeat(100)}${index}`, 1]));
  const cut = (await post('/v1/gc', { ...many, older_than: 1_000_000 })).headers['x-boxrun-warnings'];
  expect(cut).toMatch(/^unknown fields: ("x{64}", ){9}"x{64}" and 2 more$/);
});

it('a preference is read as RFC 7240 says', () => {
  for (const yes of ['handling=strict', 'respond-async, Handling="strict"; a=b', 'handling = strict']) {
    expect(prefersStrict(yes), yes).toBe(true);
  }
  for (const no of [undefined, '', 'handling=lenient', 'handling=lenient, handling=strict', 'a; handling=strict']) {
    expect(prefersStrict(no), no).toBe(false);
  }
});
