// Tests GET /v1/boxes/{box}/stats on a real server: the figures follow what the commands of the box do, and there are
// none of a box that does not run.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const mib = 2 ** 20;

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

it('the figures of a box follow what its commands do', async () => {
  const box = await server.client.create({ image: 'base', name: 'busy', cpu: 1, memory_mb: 128, disk_size_gb: 1 });
  const before = await box.stats();
  expect(before).toMatchObject({
    memory_limit_bytes: 128 * mib,
    network_received_bytes: null,
    network_sent_bytes: null,
  });
  expect(before.disk_size_bytes).toBeGreaterThan(900 * mib);
  expect(before.disk_size_bytes).toBeLessThanOrEqual(1024 * mib);
  await box.exec(['dd', 'if=/dev/urandom', 'of=/root/file', 'bs=1M', 'count=32']);
  await box.startExec(['sh', '-c', 'sleep 1000 & sleep 1000']);
  const after = await eventually('three more processes run', async () => {
    const stats = await box.stats();
    return (stats.processes ?? 0) >= (before.processes ?? 0) + 3 && stats;
  });
  expect(after.cpu_seconds).toBeGreaterThan(before.cpu_seconds ?? Number.POSITIVE_INFINITY);
  expect(after.memory_bytes).toBeGreaterThan(0);
  expect((after.disk_used_bytes ?? 0) - (before.disk_used_bytes ?? 0)).toBeGreaterThan(30 * mib);
  expect(Date.parse(after.at)).toBeGreaterThan(Date.parse(before.at));
});

it('a box with a network has counts of its bytes', async () => {
  const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 64, network: true });
  await box.exec(['sh', '-c', 'nslookup example.invalid 10.0.2.3; true']);
  const { network_received_bytes: received, network_sent_bytes: sent } = await box.stats();
  expect(received).toBeGreaterThanOrEqual(0);
  expect(sent).toBeGreaterThan(0);
});

it('a box that does not run has no figures', async () => {
  const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
  await box.stop();
  await expect(box.stats()).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING', status: 400 });
  await expect(server.client.boxStats('nobody')).rejects.toMatchObject({ code: 'BOX_NOT_FOUND', status: 404 });
  const answer = await server.call({ method: 'POST', path: `/v1/boxes/${box.id}/stats` });
  expect(answer).toMatchObject({ status: 405, json: { code: 'METHOD_NOT_ALLOWED' } });
});
