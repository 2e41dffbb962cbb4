// Tests the long poll for the end of a command (?wait=) on a real server. It answers when the command has ended or the
// time is over.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let box: string;

beforeAll(async () => {
  server = await startServer();
  box = (await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 })).id;
});
afterAll(async () => {
  await server.close();
});

const start = async (script: string) =>
  `/v1/boxes/${box}/exec/${(await server.client.startExec(box, { cmd: ['sh', '-c', script] })).id}`;

it('the answer comes when the command ends, for three clients at once', async () => {
  const path = await start('sleep 1; exit 3');
  expect((await server.call({ path })).json).toMatchObject({ status: 'running' });
  const startedAt = performance.now();
  const answers = await Promise.all([1, 2, 3].map(() => server.call({ path: `${path}?wait=60` })));
  expect(performance.now() - startedAt).toBeLessThan(10_000);
  for (const { json } of answers) expect(json).toMatchObject({ status: 'failed', exit_code: 3 });
  expect((await server.call({ path: `${path}?wait=60` })).json).toMatchObject({ exit_code: 3 });
});

it('the answer comes when the time is over, or when the command is canceled', async () => {
  const path = await start('sleep 300');
  const startedAt = performance.now();
  expect((await server.call({ path: `${path}?wait=1` })).json).toMatchObject({ status: 'running' });
  expect(performance.now() - startedAt).toBeGreaterThan(950);
  const waiting = server.call({ path: `${path}?wait=300` });
  await server.call({ method: 'POST', path: `${path}:cancel` });
  expect((await waiting).json).toMatchObject({ status: 'canceled' });
});

it('the answer comes when the box is removed', async () => {
  const other = await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
  const exec = await server.client.startExec(other.id, { cmd: ['sleep', '300'] });
  const waiting = server.call({ path: `/v1/boxes/${other.id}/exec/${exec.id}?wait=300` });
  await server.client.removeBox(other.id, { force: true });
  const { status, json } = await waiting;
  // The client gets the failed command if the gateway reads it before the rows are removed, and otherwise a 404.
  expect([
    [200, 'failed'],
    [404, undefined],
  ]).toContainEqual([status, json.status]);
});

it.each(['-1', '301', 'x', '1.5'])('a wait of %s seconds is refused', async (wait) => {
  const path = await start('true');
  expect((await server.call({ path: `${path}?wait=${wait}` })).status).toBe(422);
});
