// Tests the bounds that a user can set, on real servers: a request above a bound is refused, and output above its bound
// is cut. The client gets a message in both cases.
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { once } from 'node:events';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { parseSse, startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
const small = { image: 'base', cpu: 1, memory_mb: 64 };

beforeAll(async () => {
  server = await startServer({
    args: ['--max-boxes', '2', '--max-execs', '2', '--max-streams', '2', '--max-body-mb', '2'],
    env: { BOXRUN_MAX_OUTPUT_MB: '1' },
  });
});
afterAll(async () => {
  await server.close();
});

const create = () => server.call({ method: 'POST', path: '/v1/boxes', body: small });

it('a server with --workers MIN:MAX never has more than MAX workers, and refuses a box above that', async () => {
  const own = await startServer({ args: ['--workers', '1:2'] });
  const made = [await own.client.create(small), await own.client.create(small)];
  await expect(own.client.create(small)).rejects.toMatchObject({
    code: 'RESOURCE_EXCEEDED',
    message: expect.stringContaining('--workers') as string,
  });
  const workers = async () =>
    (await processesOf(own.stateDir))
      .filter(({ role }) => role === 'worker')
      .map(({ box }) => box)
      .sort();
  expect(await workers()).toEqual(made.map(({ id }) => id).sort());
  await own.client.stopBox(made[0]?.id ?? '');
  await eventually('a spare worker is there', async () => (await workers()).includes('spare'));
  expect(await workers()).toHaveLength(2);
  expect((await own.client.create(small)).status).toBe('running');
  await expect(own.client.startBox(made[0]?.id ?? '')).rejects.toMatchObject({ code: 'RESOURCE_EXCEEDED' });
  await own.close();
});

describe('a server with small caps', () => {
  it('refuses a body above --max-body-mb with 413', async () => {
    const post = (bytes: number) =>
      server.call({ method: 'POST', path: '/v1/boxes', body: { ...small, name: '-', env: { A: 'x'.repeat(bytes) } } });
    expect((await post(1_500_000)).status).toBe(422); // The server has read the body, and refuses the name in it.
    expect(await post(2_200_000)).toMatchObject({ status: 413, json: { code: 'VALIDATION_ERROR' } });
  });

  it('makes at most --max-boxes boxes, even with parallel creates, and a new one after a removal', async () => {
    const answers = await Promise.all(Array.from({ length: 6 }, create));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 201, 409, 409, 409, 409]);
    const refused = answers.find(({ status }) => status === 409);
    expect(refused?.json).toMatchObject({
      code: 'RESOURCE_EXCEEDED',
      message: expect.stringContaining('BOXRUN_MAX_BOXES') as string,
    });
    const [box] = await server.client.listBoxes();
    await server.client.stopBox(box?.id ?? '');
    expect((await create()).status).toBe(409); // A stopped box counts, because it has a disk.
    await server.client.removeBox(box?.id ?? '');
    expect((await create()).status).toBe(201);
  });

  it('runs at most --max-execs commands in a box at once', async () => {
    const [box] = await server.client.listBoxes('running');
    const sleeping = ['sleep', '60'];
    const execs = [
      await server.client.startExec(box?.id ?? '', sleeping),
      await server.client.startExec(box?.id ?? '', sleeping),
    ];
    await expect(server.client.startExec(box?.id ?? '', sleeping)).rejects.toMatchObject({ code: 'RESOURCE_EXCEEDED' });
    for (const exec of execs) await server.client.cancelExec(box?.id ?? '', exec.id);
    expect((await server.client.exec(box?.id ?? '', ['true'])).exitCode).toBe(0);
  });

  it('cuts output at exactly BOXRUN_MAX_OUTPUT_MB with a message, and the command goes on', async () => {
    const [box] = await server.client.listBoxes('running');
    const exec = await server.client.startExec(box?.id ?? '', [
      'sh',
      '-c',
      'yes | head -c 3000000; echo went on > /root/after; exit 3',
    ]);
    const { text } = await server.call({ path: `/v1/boxes/${box?.id}/exec/${exec.id}/events` });
    const messages = parseSse(text).map(({ event, data }) => ({
      event,
      ...(JSON.parse(data) as { stream: string | null; data: string; seq: number }),
    }));
    const output = (stream: string) =>
      messages
        .filter((message) => message.stream === stream)
        .map(({ data }) => data)
        .join('');
    expect(output('stdout').length).toBe(1024 * 1024);
    expect(output('stderr')).toBe('\n[boxrun: output cut after 1048576 bytes; the command goes on]\n');
    expect(messages.map(({ seq }) => seq)).toEqual(messages.map((_, index) => index));
    expect(JSON.parse(messages.at(-1)?.data ?? '')).toEqual({ exit_code: 3, dropped_bytes: 3_000_000 - 1024 * 1024 });
    expect((await server.client.exec(box?.id ?? '', ['cat', '/root/after'])).stdout).toBe('went on\n');
  });

  it('gives a client at most --max-streams streams at once, and another one after one has closed', async () => {
    const [box] = await server.client.listBoxes('running');
    const exec = await server.client.startExec(box?.id ?? '', ['sleep', '60']);
    const path = `/v1/boxes/${box?.id}/exec/${exec.id}/events`;
    const open = async () => {
      const outgoing = request({ host: '127.0.0.1', port: server.port, path, agent: false }).end();
      await once(outgoing, 'response');
      outgoing.on('error', () => undefined);
      return outgoing;
    };
    const streams = [await open(), await open()];
    const refused = await server.call({ path });
    expect(refused).toMatchObject({
      status: 429,
      json: { code: 'TOO_MANY_REQUESTS' },
      headers: { 'retry-after': '1' },
    });
    const terminal = await server.call({
      path: `/v1/boxes/${box?.id}/attach`,
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'MDEyMzQ1Njc4OWFiY2RlZg==',
      },
    });
    expect(terminal.status).toBe(429);
    expect((await server.call({ path: '/v1/info' })).status).toBe(200); // The bound holds only for streams.
    streams[0]?.destroy();
    const again = await eventually('another stream is allowed', async () => {
      const outgoing = request({ host: '127.0.0.1', port: server.port, path, agent: false }).end();
      outgoing.on('error', () => undefined);
      const [{ statusCode }] = (await once(outgoing, 'response')) as [{ statusCode: number }];
      if (statusCode === 200) return outgoing;
      outgoing.destroy();
      return null;
    });
    for (const stream of [again, ...streams]) stream.destroy();
    await server.client.cancelExec(box?.id ?? '', exec.id);
  });
});

describe('a server', () => {
  it('removes commands and their output that ended before BOXRUN_RETENTION_HOURS', async () => {
    const own = await startServer({ env: { BOXRUN_RETENTION_HOURS: '48' } });
    const box = await own.client.create(small);
    const [old, young] = [
      await own.client.exec(box.id, ['echo', 'old']),
      await own.client.exec(box.id, ['echo', 'young']),
    ];
    expect([old.stdout, young.stdout]).toEqual(['old\n', 'young\n']);
    await own.client.stopBox(box.id);
    await own.stop();
    await eventually('the writer is gone', async () => (await processesOf(own.stateDir)).length === 0);
    const db = new Database(join(own.stateDir, 'boxrun.db'));
    const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000).toISOString();
    const execs = db.prepare('SELECT id FROM execs ORDER BY created_at, rowid').pluck().all() as string[];
    expect(execs).toHaveLength(2);
    const setTimes = db.prepare('UPDATE execs SET created_at = ?, finished_at = ? WHERE id = ?');
    setTimes.run(hoursAgo(49.5), hoursAgo(49), execs[0]);
    setTimes.run(hoursAgo(49.5), hoursAgo(47), execs[1]); // Only its end is within the retention.
    db.close();
    await own.start();
    await eventually('the old one is gone', async () => (await own.client.listExecs(box.id)).length === 1);
    expect((await own.call({ path: `/v1/boxes/${box.id}/exec/${execs[0]}/events` })).status).toBe(404);
    expect((await own.call({ path: `/v1/boxes/${box.id}/exec/${execs[1]}/events` })).text).toContain('young');
    await own.close();
  });

  it('starts no box, run or command on a nearly full disk, but lists and removes boxes', async () => {
    const own = await startServer();
    const box = await own.client.create(small);
    await own.stop();
    Object.assign(own.env, { BOXRUN_MIN_FREE_DISK_MB: String(2 ** 30) });
    await own.start();
    const full = { code: 'RESOURCE_EXCEEDED', message: expect.stringContaining('BOXRUN_MIN_FREE_DISK_MB') as string };
    await expect(own.client.create(small)).rejects.toMatchObject(full);
    await expect(own.client.run({ ...small, cmd: ['true'] })).rejects.toMatchObject(full);
    await expect(own.client.startExec(box.id, ['true'])).rejects.toMatchObject(full);
    expect((await own.client.listBoxes()).map(({ id }) => id)).toEqual([box.id]);
    await own.client.removeBox(box.id, { force: true });
    expect(existsSync(join(own.stateDir, 'boxes', box.id))).toBe(false);
    await own.close();
  });
});
