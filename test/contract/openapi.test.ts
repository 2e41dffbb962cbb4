// Tests the API description against a real server: every answer fits it, and it is readable as a page.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { operations } from '../../src/gateway/routes/all-operations.ts';
import { createConformance, type ApiDocument } from '../support/api/conformance.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let document: ApiDocument;

beforeAll(async () => {
  server = await startServer();
  document = (await server.call({ path: '/openapi.json' })).json as unknown as ApiDocument;
});
afterAll(async () => {
  await server.close();
});

it('the API description is OpenAPI 3.1, and all its references exist', () => {
  expect(document.openapi).toBe('3.1.0');
  const text = JSON.stringify(document);
  const references = [...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name ?? '');
  expect(references.length).toBeGreaterThan(30);
  for (const name of references) expect(document.components.schemas).toHaveProperty(name);
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const operation of Object.values(methods)) {
      const named = operation.parameters.filter((each) => each.in === 'path').map(({ name }) => `{${name}}`);
      expect([...path.matchAll(/\{\w+\}/g)].map(([name]) => name)).toEqual(named);
    }
  }
});

it('answers and errors of a real server fit the API description', async () => {
  const { complaint, fits } = createConformance(document);
  const check = async (method: string, path: string, described: string, body?: unknown) => {
    const answer = await server.call({
      method,
      path,
      isEndless: path === '/v1/events' || path === '/v1/usage',
      ...(body === undefined ? {} : { body }),
    });
    expect(complaint(method, described, answer), `${method} ${path}`).toBeNull();
    return answer;
  };
  const created = await check('POST', '/v1/boxes', '/v1/boxes', {
    image: 'base',
    name: 'shown',
    cpu: 1,
    memory_mb: 64,
    labels: { a: 'b' },
  });
  expect(created.status).toBe(201);
  await check('POST', '/v1/boxes', '/v1/boxes', { image: 'base', name: 'shown' });
  await check('POST', '/v1/boxes', '/v1/boxes', { image: 1 });
  await check('POST', '/v1/boxes', '/v1/boxes', { image: 'base', cpu: 255 });
  await check('GET', '/v1/boxes', '/v1/boxes');
  await check('GET', '/v1/boxes/shown', '/v1/boxes/{box}');
  await check('GET', '/v1/boxes/nobody', '/v1/boxes/{box}');
  const exec = await check('POST', '/v1/boxes/shown/exec', '/v1/boxes/{box}/exec', { cmd: ['true'] });
  await check('GET', '/v1/boxes/shown/execs', '/v1/boxes/{box}/execs');
  const path = `/v1/boxes/shown/exec/${exec.json['id'] as string}`;
  await check('GET', path, '/v1/boxes/{box}/exec/{exec}');
  await check('GET', `${path}/events`, '/v1/boxes/{box}/exec/{exec}/events');
  expect(fits({ $ref: '#/components/schemas/ExecState' }, { at: 'now', exec: exec.json })).toBe(true);
  await check('POST', `${path}:cancel`, '/v1/boxes/{box}/exec/{exec}:cancel');
  await check('GET', '/v1/boxes/shown/stats', '/v1/boxes/{box}/stats');
  await check('PATCH', '/v1/boxes/shown', '/v1/boxes/{box}', { labels: { a: null } });
  await check('POST', '/v1/boxes/shown:start', '/v1/boxes/{box}:start');
  await check('POST', '/v1/boxes/shown:restart', '/v1/boxes/{box}:restart', { grace_s: 0 });
  await check('POST', '/v1/boxes/shown:stop', '/v1/boxes/{box}:stop');
  await check('POST', '/v1/boxes/shown/exec', '/v1/boxes/{box}/exec', { cmd: ['true'] });
  await check('DELETE', '/v1/boxes/shown', '/v1/boxes/{box}');
  for (const plain of [
    '/v1/events',
    '/v1/usage',
    '/v1/images',
    '/v1/info',
    '/healthz',
    '/readyz',
    '/ui',
    '/docs',
    '/openapi.json',
    '/',
  ])
    await check('GET', plain, plain);
  await check('POST', '/v1/gc', '/v1/gc', { older_than: -1 });
  const run = await check('POST', '/v1/run', '/v1/run', { image: 'base', cmd: ['echo', 'x'], cpu: 1, memory_mb: 64 });
  expect(run.json).toMatchObject({ stdout: 'x\n' });
});

it('the check of answers in these tests accepts good answers and reports bad ones', () => {
  const headers = { 'content-type': 'application/json; charset=utf-8' };
  const complain = (method: string, path: string, status: number, body: unknown) =>
    createConformance(document).complaintAt(method, path, { status, headers, text: JSON.stringify(body) });
  expect(complain('GET', '/v1/boxes?limit=1', 200, [])).toBeNull();
  expect(complain('GET', '/v1/boxes/one/', 404, { code: 'BOX_NOT_FOUND', message: 'm' })).toBeNull();
  expect(complain('PUT', '/v1/boxes/one', 405, { code: 'METHOD_NOT_ALLOWED', message: 'm' })).toBeNull();
  expect(complain('GET', '/v1/boxes/one', 200, { id: 'one' })).toMatch(/does not fit/);
  expect(complain('GET', '/v1/boxes/one', 404, { code: 'EXEC_NOT_FOUND', message: 'm' })).toMatch(/does not fit/);
  expect(complain('POST', '/v1/boxes/one:stop', 418, {})).toMatch(/not described/);
  expect(complain('POST', '/v1/boxes/one:jump', 404, { error: 'no' })).toMatch(/another form/);
  expect(complain('GET', '/v1/boxes/one:stop', 200, { id: 'one' })).toMatch(/does not fit/);
  expect(complain('GET', '/nothing', 404, { code: 'ODD', message: 'm' })).toMatch(/unknown code/);
  expect(complain('GET', '/nothing', 200, {})).toMatch(/nothing is described/);
});

it('the page /docs describes every operation with an example, loads nothing and runs no script', async () => {
  const page = await server.call({ path: '/docs' });
  expect(page.headers['content-security-policy']).toContain("default-src 'none'");
  expect(page.text).not.toMatch(/<script|<img|<link|\son\w+=/i);
  for (const [id, { summary }] of Object.entries(operations)) {
    expect(page.text).toContain(`id="${id}"`);
    expect(page.text).toContain(summary);
  }
  const examples = page.text.match(/<pre>(curl|a WebSocket to) .*\$BOXRUN\//g) ?? [];
  expect(examples).toHaveLength(Object.keys(operations).length);
});
