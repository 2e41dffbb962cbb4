// Tests the grace of a box (stop_grace_s) on a real server: the time that its processes have to end at a stop. The
// grace of a caller counts first, and a removal by force ignores the grace of the box.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/shared/api.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };
/** Ends 7 s after SIGTERM: longer than the default grace, shorter than the graces in these tests. */
const slow = 'trap "sleep 7; echo bye > /root/said; exit 0" TERM; echo up; while :; do sleep 0.1; done';
const stubborn = 'trap "" TERM; echo up; while :; do sleep 0.1; done';
/** A bound far above the time of a stop without grace, and far below the graces that must not count. */
const soonMs = 20_000;

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

async function begin(on: TestServer, box: string, script: string): Promise<void> {
  const exec = await on.client.startExec(box, ['sh', '-c', script]);
  await eventually('it is up', async () =>
    (await on.call({ path: `/v1/boxes/${box}/exec/${exec.id}/events?follow=false` })).text.includes('up'),
  );
}

async function timed(work: Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work;
  return performance.now() - startedAt;
}

async function boxrun(...args: string[]): Promise<string> {
  return (await promisify(execFile)(process.execPath, [cliBundle, ...args], { env: server.env })).stdout;
}

it('a stop gives the processes of a box the grace of the box', async () => {
  const box = await server.client.create({ ...small, stop_grace_s: 60 });
  expect(box.stop_grace_s).toBe(60);
  await begin(server, box.id, slow);
  await server.client.stopBox(box.id);
  const started = await server.client.startBox(box.id);
  expect(started.stop_grace_s).toBe(60);
  expect((await server.client.exec(box.id, ['cat', '/root/said'])).stdout).toBe('bye\n');
});

it('a stop kills the processes after the grace of the box', async () => {
  const box = await server.client.create({ ...small, stop_grace_s: 0.5 });
  await begin(server, box.id, stubborn);
  const tookMs = await timed(server.client.stopBox(box.id));
  expect(tookMs).toBeGreaterThan(500);
  expect(tookMs).toBeLessThan(5_000);
});

it('the grace of the caller counts instead of the grace of the box', async () => {
  const box = await server.client.create({ ...small, stop_grace_s: 600 });
  await begin(server, box.id, stubborn);
  expect(await timed(server.client.stopBox(box.id, { graceS: 0.5 }))).toBeLessThan(soonMs);
  await server.client.startBox(box.id);
  await begin(server, box.id, stubborn);
  expect(await timed(boxrun('stop', '--grace', '0', box.id))).toBeLessThan(soonMs);
});

it('a removal by force does not wait for the grace of the box', async () => {
  const box = await server.client.create({ ...small, stop_grace_s: 600 });
  await begin(server, box.id, stubborn);
  expect(await timed(boxrun('rm', '-f', box.id))).toBeLessThan(soonMs);
});

it.each([undefined, null])('a box with stop_grace_s %s has the default grace of 5 s', async (stop_grace_s) => {
  const answer = await server.call({ method: 'POST', path: '/v1/boxes', body: { ...small, stop_grace_s } });
  const box = answer.json as unknown as Box;
  expect(box.stop_grace_s).toBeNull();
  await begin(server, box.id, stubborn);
  const tookMs = await timed(server.client.stopBox(box.id));
  expect(tookMs).toBeGreaterThan(5_000);
  expect(tookMs).toBeLessThan(5_000 + soonMs);
});

it.each([-1, 601, 'soon', true])('a create with stop_grace_s %j is refused, and makes no box', async (stop_grace_s) => {
  const boxes = (await server.client.listBoxes()).length;
  const answer = await server.call({ method: 'POST', path: '/v1/boxes', body: { ...small, stop_grace_s } });
  expect(answer).toMatchObject({
    status: 422,
    json: { code: 'VALIDATION_ERROR', message: "'stop_grace_s' must be a number from 0 to 600" },
  });
  expect(await server.client.listBoxes()).toHaveLength(boxes);
});

it('boxrun create --stop-grace sets the grace of a box, and boxrun stop uses it', async () => {
  const line = ['create', 'base', '--cpu', '1', '--memory', '64', '--json'];
  const box = JSON.parse(await boxrun(...line, '--stop-grace', '0.25')) as Box;
  expect(box.stop_grace_s).toBe(0.25);
  await begin(server, box.id, stubborn);
  const startedAt = performance.now();
  expect(await boxrun('stop', box.id)).toBe(`${box.id}\nStatus: stopped\n`);
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  expect((JSON.parse(await boxrun(...line, '--stop-grace', '0')) as Box).stop_grace_s).toBe(0);
  for (const time of ['soon', '-1', '601', '']) {
    const refused = { code: 2, stderr: expect.stringContaining('--stop-grace must be') as string };
    await expect(boxrun(...line, `--stop-grace=${time}`)).rejects.toMatchObject(refused);
  }
});

it('serve --on-exit stop gives each box its own grace, even if it is longer than the shutdown timeout', async () => {
  const own = await startServer({ args: ['--on-exit', 'stop'] });
  const patient = await own.client.create({ ...small, stop_grace_s: 60 });
  const hasty = await own.client.create({ ...small, stop_grace_s: 0 });
  // 12 s is longer than the 10 s after which the keeper kills supervisor and gateway when no box stops.
  await begin(own, patient.id, slow.replace('sleep 7', 'sleep 12'));
  await begin(own, hasty.id, stubborn);
  await own.stop();
  await eventually('the writer is gone', async () => (await processesOf(own.stateDir)).length === 0);
  await own.start();
  for (const { id } of [patient, hasty]) expect((await own.client.getBox(id)).status).toBe('stopped');
  await own.client.startBox(patient.id);
  expect((await own.client.exec(patient.id, ['cat', '/root/said'])).stdout).toBe('bye\n');
  await own.close();
});
