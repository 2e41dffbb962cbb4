// Tests `cpu_limit` on a real server: a busy box uses no more CPU time than its limit, and a limit that cannot hold is
// refused before anything is made.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkCpuLimit } from '../../src/shared/boxes/cpu-limit.ts';
import type { BoxHandle } from '../../src/sdk/index.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

/** CPU seconds in one second, of a box that computes for three seconds. */
async function busyShare(box: BoxHandle): Promise<number> {
  const exec = await box.startExec(['sh', '-c', 'while :; do :; done']);
  const startedAt = performance.now();
  const before = await box.stats();
  await box.getExec(exec.id, { waitS: 3 });
  const after = await box.stats();
  const share = ((after.cpu_seconds ?? 0) - (before.cpu_seconds ?? 0)) / ((performance.now() - startedAt) / 1000);
  await box.cancelExec(exec.id);
  expect(share).toBeGreaterThan(0);
  return share;
}

it('a busy box uses no more than its limit, also after a stop and a start', async () => {
  const box = await server.client.create({ ...small, cpu_limit: 0.2 });
  expect(box.cpu_limit).toBe(0.2);
  // The bound allows one period of the kernel's scheduler more than the limit. It is below the whole CPU that the box
  // would use without a limit.
  expect(await busyShare(box)).toBeLessThan(0.3);
  await box.restart({ graceS: 0 });
  expect(box.cpu_limit).toBe(0.2);
  expect(await busyShare(box)).toBeLessThan(0.3);
}, 60_000);

it.each([undefined, null])('a box with cpu_limit %s can use all of its CPUs', async (cpu_limit) => {
  const answer = await server.call({ method: 'POST', path: '/v1/boxes', body: { ...small, cpu_limit } });
  expect(answer).toMatchObject({ status: 201, json: { cpu_limit: null, cpu: 1 } });
});

it('a run takes a limit', async () => {
  const result = await server.client.run({ ...small, cpu_limit: 0.5, cmd: ['echo', 'hello'] });
  expect(result).toMatchObject({ exit_code: 0, stdout: 'hello\n' });
});

it.each([0, -1, 0.001, 256, 'half', true])('a create with cpu_limit %j is refused, and makes no box', async (limit) => {
  const boxes = (await server.client.listBoxes()).length;
  const answer = await server.call({ method: 'POST', path: '/v1/boxes', body: { ...small, cpu_limit: limit } });
  expect(answer).toMatchObject({
    status: 422,
    json: { code: 'VALIDATION_ERROR', message: "'cpu_limit' must be a number from 0.01 to 255" },
  });
  expect(await server.client.listBoxes()).toHaveLength(boxes);
});

it('a limit above the CPUs of the box is refused with a hint, for a create and for a run', async () => {
  const refused = {
    status: 422,
    json: { code: 'VALIDATION_ERROR', hint: expect.stringContaining('at most 1') as string },
  };
  const body = { ...small, cpu_limit: 1.5, cmd: ['true'] };
  expect(await server.call({ method: 'POST', path: '/v1/boxes', body })).toMatchObject(refused);
  expect(await server.call({ method: 'POST', path: '/v1/run', body })).toMatchObject(refused);
});

it('the boxlite driver refuses a limit that it cannot enforce', () => {
  expect(() => {
    checkCpuLimit({ cpu: 2, cpu_limit: 0.5 }, 'boxlite');
  }).toThrow(
    expect.objectContaining({ code: 'VALIDATION_ERROR', hint: expect.stringContaining('container driver') as string }),
  );
  checkCpuLimit({ cpu: 2, cpu_limit: null }, 'boxlite');
  checkCpuLimit({ cpu: 2 }, 'boxlite');
});
