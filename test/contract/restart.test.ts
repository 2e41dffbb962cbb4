// Tests POST /v1/boxes/{box}:restart on a real server: a stop and a start with one answer, in every state of a box, and
// what is left when the start fails.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

it('a restart ends the commands of a running box, keeps its disk, and gives it running again', async () => {
  const box = await server.client.create({ ...small, name: 'again' });
  await box.exec(['sh', '-c', 'echo kept > /root/file']);
  const sleeper = await box.startExec(['sleep', '1000']);
  const startedAt = box.started_at ?? '';
  await box.restart({ graceS: 0 });
  expect(box).toMatchObject({ status: 'running', stopped_at: null, name: 'again' });
  expect(Date.parse(box.started_at ?? '')).toBeGreaterThan(Date.parse(startedAt));
  expect((await box.getExec(sleeper.id)).status).toBe('failed');
  expect((await box.exec(['cat', '/root/file'])).stdout).toBe('kept\n');
  await box.remove({ force: true });
});

it('a stopped box is just started, and the answer has the times of its stages', async () => {
  const box = await server.client.create(small);
  await box.stop();
  const answer = await server.call({ method: 'POST', path: `/v1/boxes/${box.id}:restart` });
  expect(answer).toMatchObject({ status: 200, json: { id: box.id, status: 'running' } });
  expect(answer.json).not.toHaveProperty('timings');
  expect(answer.headers['server-timing']).toContain('worker');
  await box.remove({ force: true });
});

it('processes have the grace of the request to end by themselves', async () => {
  const box = await server.client.create({ ...small, stop_grace_s: 0 });
  const script = 'trap "sleep 1; echo bye > /root/said; exit 0" TERM; echo up; while :; do sleep 0.1; done';
  const exec = await box.startExec(['sh', '-c', script]);
  await eventually('it is up', async () =>
    (await server.call({ path: `/v1/boxes/${box.id}/exec/${exec.id}/events?follow=false` })).text.includes('up'),
  );
  await box.restart({ graceS: 30 });
  expect((await box.exec(['cat', '/root/said'])).stdout).toBe('bye\n');
  await box.remove({ force: true });
});

it('two restarts at once give two answers, and the box runs', async () => {
  const box = await server.client.create(small);
  const answers = await Promise.all([1, 2].map(() => server.client.restartBox(box.id, { graceS: 0 })));
  expect(answers.map(({ status }) => status)).toEqual(['running', 'running']);
  expect((await server.client.exec(box.id, ['true'])).exitCode).toBe(0);
  await box.remove({ force: true });
});

it('a box that cannot start again is in error, as after a start that failed', async () => {
  const box = await server.client.create({ ...small, name: 'broken' });
  // Without its record the box has no disk.
  await rm(join(server.stateDir, 'boxes', box.id, 'box.json'));
  await expect(box.restart({ graceS: 0 })).rejects.toMatchObject({
    code: 'RUNTIME_ERROR',
    message: expect.stringContaining('has no disk') as string,
  });
  await box.refresh();
  expect(box).toMatchObject({ status: 'error', error_code: 'RUNTIME_ERROR', name: 'broken' });
  await box.remove();
});

it('unknown boxes and bad graces are refused', async () => {
  const restart = (box: string, body?: unknown) =>
    server.call({ method: 'POST', path: `/v1/boxes/${box}:restart`, ...(body === undefined ? {} : { body }) });
  expect(await restart('nobody')).toMatchObject({ status: 404, json: { code: 'BOX_NOT_FOUND' } });
  const box = await server.client.create(small);
  expect(await restart(box.id, { grace_s: 601 })).toMatchObject({ status: 422, json: { code: 'VALIDATION_ERROR' } });
  expect((await server.client.getBox(box.id)).started_at).toBe(box.started_at);
});
