// Tests runs on a real server: the answer, its limits and the stream. The box of a run is removed in every case, also
// when the client leaves.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { eventually } from '../support/runs/eventually.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

const run = (script: string, rest: object = {}, signal?: AbortSignal) =>
  server.call({
    method: 'POST',
    path: '/v1/run',
    body: { image: 'base', cmd: ['sh', '-c', script], cpu: 1, memory_mb: 128, ...rest },
    ...(signal === undefined ? {} : { signal }),
  });
const boxes = async () => (await server.call({ path: '/v1/boxes' })).list;

it('a run answers with output and exit code, and removes its box', async () => {
  const answer = await run('echo out; echo err >&2; exit 5');
  expect(answer.status).toBe(200);
  expect(answer.json).toEqual({ exit_code: 5, stdout: 'out\n', stderr: 'err\n', error_message: null });
  expect(await boxes()).toEqual([]);
});

it('a run reports that its command has timed out', async () => {
  const answer = await run('echo begun; sleep 60', { timeout_ms: 300 });
  expect(answer.json).toMatchObject({ stdout: 'begun\n' });
  expect(answer.json.error_message).toContain('timed out');
  expect(await boxes()).toEqual([]);
});

it('the answer of a run cuts output at 16 MiB with a message', { timeout: 60_000 }, async () => {
  const answer = await run('head -c 20000000 /dev/zero | tr "\\0" x; echo end >&2');
  const { stdout, stderr } = answer.json as { stdout: string; stderr: string };
  expect(stdout).toHaveLength(16 * 1024 * 1024 + '\n[boxrun: output cut after 16777216 bytes]\n'.length);
  expect(stdout.endsWith('[boxrun: output cut after 16777216 bytes]\n')).toBe(true);
  expect(stderr).toBe('end\n');
});

it('a run removes its box when the client leaves', async () => {
  const leaving = new AbortController();
  const answer = run('sleep 300', {}, leaving.signal).catch(() => null);
  await eventually('the box runs', async () => (await boxes()).length === 1);
  leaving.abort();
  await answer;
  await eventually('the box is gone', async () => (await boxes()).length === 0);
});

it('a run removes its box when the client leaves during the create', async () => {
  for (const ms of [5, 40, 90, 150]) {
    const leaving = new AbortController();
    const answer = run('sleep 300', {}, leaving.signal).catch(() => null);
    await new Promise((resolve) => setTimeout(resolve, ms));
    leaving.abort();
    await answer;
  }
  await eventually('every box is gone', async () => (await boxes()).length === 0);
});

it('a run answers with an error code for invalid input, a missing image or too many CPUs', async () => {
  expect((await run('true', { cmd: [] })).status).toBe(422);
  expect((await run('true', { image: '127.0.0.1:9/nothing:here' })).json.code).toBe('IMAGE_PULL_FAILED');
  expect((await run('true', { cpu: 200 })).json.code).toBe('RESOURCE_EXCEEDED');
  expect(await boxes()).toEqual([]);
});

it('a long run sends an interim answer 102 to the waiting client', { timeout: 40_000 }, async () => {
  const answer = await run('sleep 11; echo done');
  expect(answer.json).toMatchObject({ exit_code: 0, stdout: 'done\n' });
  expect(answer.interim).toEqual([102]);
});

describe('a run as a stream', () => {
  const input = (script: string) => ({ image: 'base', cmd: ['sh', '-c', script], cpu: 1, memory_mb: 128 });

  it(
    'reports its progress, more output than an answer can have, and the exit after the box is removed',
    { timeout: 60_000 },
    async () => {
      const bytesAsked = limits.runOutputBytesMax + 1_000_000;
      const steps: string[] = [];
      const bytes = { stdout: 0, stderr: 0 };
      const onProgress = ({ message }: { message: string }) => steps.push(message);
      for await (const event of server.client.runStream(
        input(`head -c ${bytesAsked} /dev/zero; echo err >&2; exit 3`),
        { onProgress },
      )) {
        if (event.type === 'log') bytes[event.stream] += event.bytes.length;
        else expect(event).toMatchObject({ exitCode: 3, error: null });
      }
      expect(bytes).toEqual({ stdout: bytesAsked, stderr: 4 });
      expect(steps.length).toBeGreaterThan(0);
      expect(await boxes()).toEqual([]);
    },
  );

  it('ends when the client leaves, and removes the box', async () => {
    for await (const event of server.client.runStream(input('echo up; sleep 1000'))) {
      expect(event).toMatchObject({ type: 'log', text: 'up\n' });
      break;
    }
    await eventually('the box is gone', async () => (await boxes()).length === 0);
  });

  it('reports an error with its code, and refuses an idempotency key', async () => {
    const missing = server.client.runStream({ ...input('true'), image: '127.0.0.1:9/no:image' });
    await expect(missing.next()).rejects.toMatchObject({ code: 'IMAGE_PULL_FAILED' });
    const headers = { accept: 'text/event-stream', 'idempotency-key': 'again' };
    const refused = await server.call({ method: 'POST', path: '/v1/run', headers, body: input('true') });
    expect(refused.status).toBe(422);
  });
});
