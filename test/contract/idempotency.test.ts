// Tests Idempotency-Key on a real server: a repeated request makes nothing twice, even if processes of the server died
// in the meantime.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { startServer, type Answer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let box: string;

beforeAll(async () => {
  server = await startServer();
  box = (await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 })).id;
});
afterAll(async () => {
  await server.close();
});

const post = (path: string, key: string, body: object): Promise<Answer> =>
  server.call({ method: 'POST', path, body, headers: { 'idempotency-key': key } });
const create = (key: string, rest: object = {}) =>
  post('/v1/boxes', key, { image: 'base', cpu: 1, memory_mb: 64, ...rest });
const exec = (key: string, cmd: readonly string[]) => post(`/v1/boxes/${box}/exec`, key, { cmd });
const run = (key: string, script: string) =>
  post('/v1/run', key, { image: 'base', cpu: 1, memory_mb: 64, cmd: ['sh', '-c', script] });
const boxCount = async () => (await server.client.listBoxes()).length;

function expectOtherBody(answer: Answer): void {
  expect([answer.status, answer.json.code]).toEqual([422, 'VALIDATION_ERROR']);
}

describe('a create with a key', () => {
  it('makes one box, even if it is sent several times at once', async () => {
    const before = await boxCount();
    const answers = await Promise.all([1, 2, 3].map(() => create('create-1', { env: { A: '1', B: '2' } })));
    answers.push(await create('create-1', { env: { B: '2', A: '1' } }));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(answers.map(({ json }) => json['id'])).size).toBe(1);
    expect(await boxCount()).toBe(before + 1);
    expectOtherBody(await create('create-1', { env: { A: '2' } }));
    expect((await create('create-2')).json['id']).not.toBe(answers[0]?.json['id']);
  });

  it('can be repeated after a failure, but not after its box was removed', async () => {
    const failed = await create('create-3', { image: '127.0.0.1:9/nothing:here' });
    expect(failed.json.code).toBe('IMAGE_PULL_FAILED');
    expect((await create('create-3')).status).toBe(201);
    const removed = (await create('create-4')).json['id'] as string;
    await server.client.removeBox(removed, { force: true });
    expect((await create('create-4')).json.code).toBe('BOX_NOT_FOUND');
  });

  it.each(['', 'k'.repeat(256), 'a b', 'é'])('is refused when the key is "%s"', async (key) => {
    expectOtherBody(await create(key));
  });
});

describe('a command with a key', () => {
  it('is started once, even if it is sent several times at once', async () => {
    const answers = await Promise.all(
      [1, 2, 3].map(() => exec('exec-1', ['sh', '-c', 'echo x >> /root/count; cat /root/count'])),
    );
    answers.push(await exec('exec-1', ['sh', '-c', 'echo x >> /root/count; cat /root/count']));
    expect(new Set(answers.map(({ json }) => json['id'])).size).toBe(1);
    expect((await server.client.exec(box, ['cat', '/root/count'])).stdout).toBe('x\n');
    expectOtherBody(await exec('exec-1', ['true']));
  });
});

describe('a run with a key', () => {
  it('runs once, and the same answer comes again', async () => {
    const answers = await Promise.all([1, 2].map(() => run('run-1', 'cat /proc/sys/kernel/random/uuid; exit 4')));
    answers.push(await run('run-1', 'cat /proc/sys/kernel/random/uuid; exit 4'));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(answers[0]?.json).toMatchObject({ exit_code: 4 });
    expectOtherBody(await run('run-1', 'true'));
    const long = await run('run-2', 'head -c 600000 /dev/zero | tr "\\0" x');
    const again = (await run('run-2', 'head -c 600000 /dev/zero | tr "\\0" x')).json['stdout'] as string;
    expect((long.json['stdout'] as string).length).toBe(600_000);
    expect(again.endsWith('[boxrun: output cut after 524288 bytes]\n')).toBe(true);
  });

  it('runs again after its client left before the end', async () => {
    const leaving = new AbortController();
    const before = await boxCount();
    const body = { image: 'base', cpu: 1, memory_mb: 64, cmd: ['sh', '-c', 'sleep 2; echo done'] };
    const headers = { 'idempotency-key': 'run-3' };
    const broken = server
      .call({ method: 'POST', path: '/v1/run', body, headers, signal: leaving.signal })
      .catch(() => null);
    await eventually('its box is there', async () => (await boxCount()) > before);
    leaving.abort();
    await broken;
    expect((await post('/v1/run', 'run-3', body)).json).toMatchObject({ stdout: 'done\n' });
  });
});

it('a key still works after the gateway, the supervisor and the writer were killed', { timeout: 90_000 }, async () => {
  const made = (await create('crash-1')).json['id'];
  const started = (await exec('crash-2', ['true'])).json['id'];
  const ran = (await run('crash-3', 'cat /proc/sys/kernel/random/uuid')).text;
  for (const role of ['gateway', 'supervisor', 'writer'] as const) {
    const { pid } = await processOf(server.stateDir, role);
    process.kill(pid, 'SIGKILL');
    await eventually(
      `the ${role} is back`,
      async () => {
        const ready = await server.call({ path: '/readyz' }).catch(() => null);
        const now = await processOf(server.stateDir, role).catch(() => null);
        return ready?.status === 200 && now !== null && now.pid !== pid;
      },
      20_000,
    );
    const again = () =>
      eventually('the answer', async () => {
        const answer = await create('crash-1').catch(() => null);
        return answer !== null && answer.status !== 503 ? answer : null;
      });
    expect((await again()).json['id']).toBe(made);
    expect((await exec('crash-2', ['true'])).json['id']).toBe(started);
    expect((await run('crash-3', 'cat /proc/sys/kernel/random/uuid')).text).toBe(ran);
  }
});
