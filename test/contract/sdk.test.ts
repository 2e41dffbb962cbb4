// Tests the TypeScript SDK against a real server: lists and pages, idempotency keys, input for commands, and state
// events.
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BoxHandle } from '../../src/sdk/index.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
const boxes: BoxHandle[] = [];

beforeAll(async () => {
  server = await startServer();
  for (const labels of [{ team: 'blue', tier: 'web' }, { team: 'blue' }, { team: 'red' }]) {
    boxes.push(await server.client.create({ image: 'base', cpu: 1, memory_mb: 64, labels }));
  }
});
afterAll(async () => {
  await server.close();
});

const ids = (rows: readonly { readonly id: string }[]) => rows.map(({ id }) => id);
const newestFirst = () => ids(boxes).reverse();
async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const row of rows) found.push(row);
  return found;
}

it('the SDK lists boxes by status and labels, as a whole, in pages, and one after the other', async () => {
  const { client } = server;
  expect(ids(await client.listBoxes())).toEqual(newestFirst());
  expect(ids(await client.listBoxes({ labels: ['team=blue'] }))).toEqual(newestFirst().slice(1));
  expect(ids(await client.listBoxes({ status: 'running', labels: ['team=blue', 'tier'] }))).toEqual([boxes[0]?.id]);
  expect(await client.listBoxes({ status: 'stopped', labels: ['team'] })).toEqual([]);
  const first = await client.pageOfBoxes({ limit: 2 });
  expect(ids(first.rows)).toEqual(newestFirst().slice(0, 2));
  const second = await client.pageOfBoxes({ limit: 2, cursor: first.nextCursor ?? '' });
  expect([ids(second.rows), second.nextCursor]).toEqual([newestFirst().slice(2), null]);
  expect(ids(await all(client.eachBox({ limit: 1 })))).toEqual(newestFirst());
  expect(ids(await all(client.eachBox({ limit: 1, labels: ['team=blue'] })))).toEqual(newestFirst().slice(1));
  expect((await second.rows[0]?.exec(['echo', 'handles']))?.stdout).toBe('handles\n');
  await expect(client.pageOfBoxes({ cursor: 'x' })).rejects.toMatchObject({ code: 'VALIDATION_ERROR' });
});

it('the SDK lists commands in pages and one after the other', async () => {
  const box = boxes[2] as BoxHandle;
  const started = [];
  for (let count = 0; count < 5; count++) started.unshift((await box.startExec(['true'])).id);
  expect(ids(await box.listExecs())).toEqual(started);
  const page = await box.pageOfExecs({ limit: 3 });
  expect(ids(page.rows)).toEqual(started.slice(0, 3));
  expect(ids(await all(box.eachExec({ limit: 2 })))).toEqual(started);
  expect(ids(await all(box.eachExec({ limit: 2, cursor: page.nextCursor ?? '' })))).toEqual(started.slice(3));
  for await (const exec of box.eachExec({ limit: 1 })) {
    expect(exec.id).toBe(started[0]);
    break;
  }
  await expect(all(box.eachExec({}, { signal: AbortSignal.abort() }))).rejects.toMatchObject({ code: 'CANCELED' });
});

it('the SDK makes no box, command or run twice with the same idempotency key', async () => {
  const { client } = server;
  const input = { image: 'base', cpu: 1, memory_mb: 64 };
  const made = await client.create(input, { idempotencyKey: 'box-1' });
  const steps: string[] = [];
  const again = await client.create(input, { idempotencyKey: 'box-1', onProgress: ({ stage }) => steps.push(stage) });
  expect(again.id).toBe(made.id);
  await expect(client.create({ ...input, cpu: 2 }, { idempotencyKey: 'box-1' })).rejects.toMatchObject({
    code: 'VALIDATION_ERROR',
  });
  const results = await Promise.all(
    [1, 2].map(() =>
      made.exec(['sh', '-c', 'echo x >> /root/count; wc -l < /root/count'], { idempotencyKey: 'exec-1' }),
    ),
  );
  expect(results.map(({ stdout }) => stdout.trim())).toEqual(['1', '1']);
  expect((await made.startExec(['true'], { idempotencyKey: 'exec-2' })).id).toBe(
    (await made.startExec(['true'], { idempotencyKey: 'exec-2' })).id,
  );
  const runs = [
    await client.run({ ...input, cmd: ['sh', '-c', 'cat /proc/sys/kernel/random/uuid'] }, { idempotencyKey: 'run-1' }),
  ];
  runs.push(
    await client.run({ ...input, cmd: ['sh', '-c', 'cat /proc/sys/kernel/random/uuid'] }, { idempotencyKey: 'run-1' }),
  );
  expect(runs[1]).toEqual(runs[0]);
  await made.remove({ force: true });
});

it('the SDK can send input to a command without its output, and read the output as events', async () => {
  const box = boxes[0] as BoxHandle;
  const exec = await box.startExec({ cmd: ['sh', '-c', 'cat; exit 5'], stdin: true });
  const input = await box.attachExec(exec.id, { output: false });
  await input.write('typed\n');
  input.end();
  expect(await input.exited).toEqual({ exitCode: 5, error: null });
  expect(await new Response(input.output).text()).toBe('');
  const events = await all(server.client.execEvents(exec));
  expect(events.map((event) => (event.type === 'log' ? event.text : event.exitCode))).toEqual(['typed\n', 5]);
  await expect((await box.attachExec(exec.id, { output: false })).exited).resolves.toEqual({
    exitCode: 5,
    error: null,
  });
});

it('the SDK follows state events until its signal aborts, and resumes after an id', async () => {
  const { client } = server;
  const seen: string[] = [];
  let since = '';
  const controller = new AbortController();
  const loop = (async () => {
    for await (const event of client.events({ signal: controller.signal })) {
      if (event.type === 'ready') void boxes[0]?.startExec(['true']);
      seen.push(event.type);
      since = event.id;
      if (event.type === 'exec.started') controller.abort();
    }
  })();
  await expect(loop).rejects.toMatchObject({ code: 'CANCELED' });
  expect(seen).toEqual(['ready', 'exec.started']);
  for await (const event of client.events({ since })) {
    expect(event).toMatchObject({ type: 'exec.finished', exec: { box_id: boxes[0]?.id, status: 'succeeded' } });
    break;
  }
});

it('the SDK treats an undefined option as absent, in each call', async () => {
  const none = undefined;
  const input = { image: 'base', name: none, cpu: 1, memory_mb: 64, env: none, network: none, labels: none };
  const options = { signal: none, onProgress: none, idempotencyKey: none };
  const box = await server.client.create(input as never, options);
  expect(box).toMatchObject({ name: null, env: null, network: false, labels: {} });
  const command = { cmd: ['echo', 'hi'], user: none, env: none, workdir: none, timeout_ms: none, tty: none };
  expect((await box.exec(command as never, { outputBytesMax: none, ...options })).stdout).toBe('hi\n');
  const shell = await server.client.attach(box.id, { shell: none, cols: none, rows: none, term: none, signal: none });
  await shell.write('stty size; exit 3\n');
  expect(await shell.exited).toMatchObject({ exitCode: 3 });
  expect(await new Response(shell.output).text()).toContain('24 80');
  const [exec] = await server.client.listExecs(box.id, { signal: none });
  expect(await server.client.getExec(box.id, exec?.id ?? '', { waitS: none, signal: none })).toEqual(exec);
  const page = { limit: none, cursor: none };
  expect((await server.client.pageOfBoxes({ status: none, labels: none, ...page })).rows.length).toBeGreaterThan(0);
  expect((await server.client.pageOfExecs(box.id, page)).rows).toHaveLength(1);
  await box.stop({ graceS: none, signal: none });
  await box.remove({ force: none, graceS: none, signal: none });
});
