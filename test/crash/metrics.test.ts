// Tests /metrics on a real server: the figures come from all processes and count what the test does. While a process is
// down, the figures of the other processes are still there.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { getLocal } from '../support/servers/local-http.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { parsePrometheus, sumOf, type Samples } from '../support/load/prometheus.ts';

let server: CrashServer;
beforeEach(async () => {
  server = await startCrashServer({ args: ['--workers', '0'] });
});
afterEach(async () => {
  await server.close();
});

async function scrape(): Promise<Samples> {
  const answer = await getLocal(server.stateDir, '/metrics');
  expect(answer.status).toBe(200);
  expect(answer.type).toContain('text/plain; version=0.0.4');
  return parsePrometheus(answer.text);
}

it('/metrics counts boxes, commands, events, bytes and times, and measures each box', async () => {
  const { client } = server;
  const before = await scrape();
  expect(sumOf(before, 'boxrun_boxes')).toBe(0);
  expect(sumOf(before, 'boxrun_execs_started_total')).toBe(0);
  const box = await client.create({ image: 'base', cpu: 1, memory_mb: 128 });
  await collect(
    client,
    await client.startExec(box.id, {
      cmd: ['sh', '-c', 'head -c 1000 /dev/zero | tr "\\0" x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'],
    }),
  );
  await collect(client, await client.startExec(box.id, { cmd: ['false'] }));
  const sleeping = await client.startExec(box.id, { cmd: ['sleep', '1000'] });
  const after = await scrape();
  const value = (name: string, ...words: string[]) => sumOf(after, name, ...words);
  expect(value('boxrun_boxes', 'ready')).toBe(1);
  expect(value('boxrun_cpus', 'held')).toBe(1);
  expect(value('boxrun_execs_started_total')).toBe(3);
  expect(value('boxrun_execs_finished_total', 'succeeded')).toBe(1);
  expect(value('boxrun_execs_finished_total', 'failed')).toBe(1);
  expect(value('boxrun_execs_running')).toBe(1);
  expect(value('boxrun_output_bytes_written_total')).toBe(1000);
  expect(value('boxrun_events_written_total')).toBeGreaterThanOrEqual(3);
  expect(value('boxrun_exec_seconds_count')).toBe(2);
  expect(value('boxrun_output_lost_bytes_total')).toBe(0);
  expect(value('boxrun_box_start_seconds_count', 'create', 'total')).toBe(1);
  expect(value('boxrun_box_start_seconds_sum', 'create', 'total')).toBeGreaterThan(0);
  for (const hop of ['gateway_supervisor', 'gateway_writer', 'supervisor_worker', 'supervisor_writer', 'writer']) {
    expect(value('boxrun_hop_seconds_count', `"${hop}"`), hop).toBeGreaterThan(0);
  }
  expect(value('boxrun_http_request_seconds_count', 'POST', '/v1/boxes/:box/exec')).toBe(3);
  expect(value('boxrun_box_memory_bytes', box.id)).toBeGreaterThan(0);
  expect(value('boxrun_box_cpu_seconds', box.id)).toBeGreaterThan(0);
  for (const queue of ['writer_changes', 'gateway_reads', 'box_turns', 'worker_starts'])
    expect(value('boxrun_queue_depth', `"${queue}"`), queue).toBe(0);
  expect(value('boxrun_bounds_hit_total', 'unackedBytesMax')).toBe(0);
  for (const role of ['gateway', 'supervisor', 'writer'])
    expect(value('boxrun_process_resident_bytes', role), role).toBeGreaterThan(2 ** 20);
  expect(value('boxrun_restarts')).toBe(0);

  await server.kill('worker', box.id);
  await server.kill('writer');
  await eventually('its command can be canceled', () =>
    client.cancelExec(box.id, sleeping.id).then(
      () => true,
      () => false,
    ),
  );
  const later = await eventually('all parts are up', async () => {
    const now = await scrape();
    return (
      ['supervisor', 'writer', 'database', 'disk'].every((part) => sumOf(now, 'boxrun_part_up', part) === 1) && now
    );
  });
  expect(sumOf(later, 'boxrun_restarts', 'worker')).toBe(1);
  expect(sumOf(later, 'boxrun_restarts', 'writer')).toBe(1);
  expect(sumOf(later, 'boxrun_execs_cut_short_total')).not.toBeNull();

  await client.removeBox(box.id, { force: true });
  const gone = await scrape();
  expect(sumOf(gone, 'boxrun_boxes')).toBe(0);
  expect(sumOf(gone, 'boxrun_box_memory_bytes')).toBeNull(); // A removed box has no figures.
});

it('/metrics shows the figures of the living processes while the writer and the supervisor are down', async () => {
  const { pid } = await processOf(server.stateDir, 'keeper');
  process.kill(pid, 'SIGSTOP');
  await server.kill('writer');
  const withoutWriter = await eventually('/metrics reports that the writer is down', async () => {
    const now = await scrape();
    return sumOf(now, 'boxrun_part_up', '"writer"') === 0 && now;
  });
  expect(sumOf(withoutWriter, 'boxrun_boxes')).toBe(0);
  expect(sumOf(withoutWriter, 'boxrun_part_up', 'supervisor')).toBe(1);
  expect(sumOf(withoutWriter, 'boxrun_events_written_total')).toBeNull();
  await server.kill('supervisor');
  const gatewayOnly = await eventually('/metrics reports that the supervisor is down', async () => {
    const now = await scrape();
    return sumOf(now, 'boxrun_part_up', 'supervisor') === 0 && now;
  });
  expect(sumOf(gatewayOnly, 'boxrun_boxes')).toBeNull();
  expect(sumOf(gatewayOnly, 'boxrun_http_request_seconds_count')).toBeGreaterThan(0);
  process.kill(pid, 'SIGCONT');
  await eventually(
    'the figures of the writer are back',
    async () => sumOf(await scrape(), 'boxrun_events_written_total') === 0,
  );
});
