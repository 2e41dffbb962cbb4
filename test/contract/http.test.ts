// Tests the general behaviour of HTTP on a real server: error bodies, methods, request bodies, health and shutdown.
// test/security tests which requests are allowed.
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type Answer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

function expectError(answer: Answer, status: number, code: string): void {
  expect({ status: answer.status, code: answer.json.code }).toEqual({ status, code });
  expect(typeof answer.json.message).toBe('string');
  expect(answer.text).not.toMatch(/\n\s+at /);
}

it('an unknown path answers 404 NOT_FOUND', async () => {
  expectError(await server.call({ path: '/v2/boxes' }), 404, 'NOT_FOUND');
  expectError(await server.call({ method: 'POST', path: '/nowhere', body: { a: 1 } }), 404, 'NOT_FOUND');
  expect((await server.call({ path: '/v1/boxes/%zz' })).status).toBe(400);
});

it('a wrong method answers 405 with the methods of the path in Allow', async () => {
  for (const [method, path, allow] of [
    ['DELETE', '/v1/boxes', 'HEAD, GET, OPTIONS, POST'],
    ['PUT', '/v1/boxes/x', 'DELETE, GET, HEAD, OPTIONS, PATCH, POST'],
    ['GET', '/v1/run', 'OPTIONS, POST'],
    ['POST', '/v1/info', 'GET, HEAD, OPTIONS'],
  ] as const) {
    const answer = await server.call({ method, path, ...(method === 'POST' ? { body: {} } : {}) });
    expectError(answer, 405, 'METHOD_NOT_ALLOWED');
    expect(answer.headers.allow?.split(', ').sort()).toEqual(allow.split(', ').sort());
  }
  const options = await server.call({ method: 'OPTIONS', path: '/v1/boxes' });
  expect(options.status).toBe(204);
  expect(options.headers.allow).toContain('POST');
  const head = await server.call({ method: 'HEAD', path: '/v1/info' });
  expect({ status: head.status, text: head.text }).toEqual({ status: 200, text: '' });
});

it('an invalid JSON body answers 422, and a body above the limit answers 413', async () => {
  const post = (contentType: string, body: string) =>
    server.call({ method: 'POST', path: '/v1/boxes', body, headers: { 'content-type': contentType } });
  expectError(await post('application/json', '{"image":'), 422, 'VALIDATION_ERROR');
  expectError(await post('application/json; charset=utf-8', '"base"'), 422, 'VALIDATION_ERROR');
  expectError(await post('application/json', ''), 422, 'VALIDATION_ERROR');
  expectError(await post('application/json', JSON.stringify({ image: 'x'.repeat(2 ** 20) })), 413, 'VALIDATION_ERROR');
});

it('the Unix socket accepts any Host header', async () => {
  expect((await server.call({ path: '/v1/info', via: 'socket', headers: { host: 'whatever' } })).status).toBe(200);
});

it('bytes that are not HTTP get a 400 with a JSON error', async () => {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(server.port, '127.0.0.1', () => socket.write('rubbish\r\n\r\n'));
    let said = '';
    socket.on('data', (piece: Buffer) => (said += piece.toString()));
    socket.on('close', () => {
      resolve(said);
    });
    socket.on('error', reject);
  });
  expect(text).toContain('400 Bad Request');
  expect(text).toContain('"code":"VALIDATION_ERROR"');
});

it('the server has a page at /ui, and answers at /healthz and /readyz', async () => {
  const root = await server.call({ path: '/' });
  expect([root.status, root.headers.location]).toEqual([302, '/ui']);
  const page = await server.call({ path: '/ui' });
  expect(page.headers['content-type']).toContain('text/html');
  expect(page.text).toContain('<title>BoxRun</title>');
  expect((await server.call({ path: '/healthz' })).json).toEqual({ ok: true });
  expect((await server.call({ path: '/readyz' })).json).toMatchObject({
    ok: true,
    parts: { supervisor: true, writer: true, database: true },
    workers: { silent: 0 },
  });
});

describe('a server that gets SIGTERM', () => {
  it('ends streams, removes its socket, and leaves running commands to the next server', async () => {
    const own = await startServer({ args: ['--on-exit', 'detach'] });
    const box = await own.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
    const exec = await own.client.startExec(box.id, { cmd: ['sh', '-c', 'echo begun; sleep 3; echo ended'] });
    const stream = own.call({ path: `/v1/boxes/${box.id}/exec/${exec.id}/events` });
    await eventually(
      'the command has begun',
      async () => (await own.client.getExec(box.id, exec.id)).status === 'running',
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
    const startedAt = Date.now();
    await own.stop();
    expect(Date.now() - startedAt).toBeLessThan(4_000);
    const { text } = await stream;
    expect(text).toContain('begun');
    expect(text).not.toContain('event: exit');
    await expect(stat(own.socketPath)).rejects.toThrow('ENOENT');
    await own.start();
    const texts: string[] = [];
    for await (const event of own.client.execEvents(exec)) if (event.type === 'log') texts.push(event.text);
    expect(texts.join('')).toBe('begun\nended\n');
    await own.close();
  });
});
