// Tests the ranges of host ids that a real server gives its boxes. Each box keeps its own range, also after a restart
// of the server. The range of a removed box is used again. A box of an earlier version gets its own range at its next
// start.
import Database from 'better-sqlite3';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { rangeOf, sharedRange } from '../../src/shared/host/id-ranges.ts';
import { boxHome } from '../../src/shared/settings/state-dir.ts';
import { schemaVersion } from '../../src/shared/store/migrations.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

const database = (readonly: boolean) => new Database(join(server.stateDir, 'boxrun.db'), { readonly });
const blockOf = (boxId: string): number | null => {
  const db = database(true);
  try {
    return db.prepare('SELECT id_block FROM boxes WHERE id = ?').pluck().get(boxId) as number | null;
  } finally {
    db.close();
  }
};
const initOf = (boxId: string) =>
  (
    JSON.parse(readFileSync(join(boxHome(server.stateDir, boxId), 'run/state.json'), 'utf8')) as {
      init: { pid: number };
    }
  ).init.pid;
const baseOf = (boxId: string) =>
  Number(
    readFileSync(`/proc/${initOf(boxId)}/uid_map`, 'utf8')
      .trim()
      .split(/\s+/)[1],
  );
const create = () => server.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
const say = async (boxId: string, script: string) => (await server.client.exec(boxId, ['sh', '-c', script])).stdout;

it('each box keeps a range of ids of its own, and a new box can get the range of a removed box', async () => {
  const [one, two] = await Promise.all([create(), create()]);
  const blocks = [blockOf(one.id) ?? -1, blockOf(two.id) ?? -1];
  expect(new Set(blocks).size).toBe(2);
  expect([baseOf(one.id), baseOf(two.id)]).toEqual(blocks.map((block) => rangeOf(block).base));
  await server.stop();
  await server.start();
  await server.client.stopBox(one.id);
  const three = await create();
  expect(blocks).not.toContain(blockOf(three.id));
  await server.client.startBox(one.id);
  expect(baseOf(one.id)).toBe(rangeOf(blocks[0] as number).base);
  const used = [...blocks, blockOf(three.id)];
  for (const box of [one, two, three]) await server.client.removeBox(box.id, { force: true });
  expect(used).toContain(blockOf((await create()).id));
});

it('a box of an earlier version gets its own range of ids at its next start, and keeps its files', async () => {
  for (const other of await server.client.listBoxes()) await server.client.removeBox(other.id, { force: true });
  const box = await create();
  await say(box.id, 'echo mine > /root/file; chown 5:6 /root/file');
  await server.client.stopBox(box.id);
  await server.stop();
  // The writer also ends, because no box runs.
  await eventually('the database is free', async () => (await processesOf(server.stateDir)).length === 0, 20_000);
  const db = database(false);
  // Undoes the last steps of the schema.
  const steps = [
    ...['id_block', 'ulimits', 'stop_grace_s', 'cpu_limit'].map((name) => [`boxes DROP COLUMN ${name}`]),
    ...[['execs DROP COLUMN internal'], ['execs DROP COLUMN usage']],
    ['execs DROP COLUMN detachable', 'execs DROP COLUMN trimmed_bytes'],
  ];
  db.exec(steps.flatMap((step) => step.map((change) => `ALTER TABLE ${change};`)).join(' '));
  db.pragma(`user_version = ${schemaVersion - steps.length}`);
  db.close();
  await server.start();
  expect(blockOf(box.id)).toBeNull();
  expect((await server.client.getBox(box.id)).ulimits).toBeNull();
  await server.client.startBox(box.id);
  const block = blockOf(box.id);
  expect(block).not.toBeNull();
  expect(baseOf(box.id)).toBe(rangeOf(block as number).base);
  expect(baseOf(box.id)).not.toBe(sharedRange.base);
  expect(await say(box.id, 'stat -c %u:%g /root/file; cat /root/file')).toBe('5:6\nmine\n');
});

it('commands, terminals, users and files work in a box with its own range of ids', async () => {
  const box = await create();
  for (const user of [null, '1000:1000']) {
    const { stdout } = await server.client.exec(box.id, {
      cmd: ['sh', '-c', 'id -u; touch /tmp/$(id -u) && rm /tmp/$(id -u) && echo written'],
      user,
      workdir: '/',
    });
    expect(stdout).toBe(`${user === null ? 0 : 1000}\nwritten\n`);
  }
  const tty = await server.client.exec(box.id, {
    cmd: ['sh', '-c', 'tty > /tmp/tty; echo seen > /dev/tty'],
    tty: true,
  });
  expect(tty.exitCode).toBe(0);
  await server.client.upload(box.id, new TextEncoder().encode('up'), '/root/up');
  expect(await say(box.id, 'cat /root/up; stat -c %u /root/up')).toBe('up0\n');
  expect(
    execFileSync('find', [boxHome(server.stateDir, box.id), '-maxdepth', '1', '-user', String(baseOf(box.id))], {
      encoding: 'utf8',
    }),
  ).toBe('');
});
