// Tests a real server that is started again with other settings. The writer and the workers outlive the `serve` that
// started them, and the settings of the next `serve` hold for them too.
import Database from 'better-sqlite3';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf, processOf } from '../support/host/processes.ts';

let env: Record<string, string>;
let server: CrashServer;

beforeEach(async () => {
  env = { BOXRUN_MAX_EXECS: '4' };
  server = await startCrashServer({ args: ['--workers', '1'], env });
});
afterEach(async () => {
  await server.close();
});

/** Creates a box with a command, so that the writer and the worker stay when the server ends. */
async function createBusyBox() {
  const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
  await server.client.startExec(box.id, { cmd: ['sleep', '1000'] });
  return box;
}

/** Adds a command that ended in January 2026, which is older than the retention of the test. Returns its id. */
function addOldExec(stateDir: string, boxId: string): string {
  const db = new Database(join(stateDir, 'boxrun.db'));
  const at = '2026-01-01T00:00:00.000Z';
  db.prepare(
    `INSERT INTO execs (id, box_id, status, cmd, exit_code, created_at, finished_at) VALUES ('exec_of_january', ?, 'succeeded', '["true"]', 0, ?, ?)`,
  ).run(boxId, at, at);
  db.prepare(
    `INSERT INTO events (exec_id, seq, type, stream, data, created_at) VALUES ('exec_of_january', 0, 'exit', NULL, x'7b7d', ?)`,
  ).run(at);
  db.close();
  return 'exec_of_january';
}

describe('a server that is started again with other settings', () => {
  it('applies the new limit of commands to a running box, and the new retention to its history', async () => {
    const box = await createBusyBox();
    const writer = await processOf(server.stateDir, 'writer');
    const worker = await processOf(server.stateDir, 'worker', box.id);
    await server.end();
    const old = addOldExec(server.stateDir, box.id);
    Object.assign(env, { BOXRUN_MAX_EXECS: '1', BOXRUN_RETENTION_HOURS: '24' });
    await server.serve();
    await expect(server.client.startExec(box.id, { cmd: ['true'] })).rejects.toMatchObject({
      code: 'RESOURCE_EXCEEDED',
    });
    await eventually(
      'the old command is gone',
      () =>
        server.client.getExec(box.id, old).then(
          () => false,
          () => true,
        ),
      20_000,
    );
    expect((await processOf(server.stateDir, 'writer')).pid).toBe(writer.pid);
    expect((await processOf(server.stateDir, 'worker', box.id)).pid).toBe(worker.pid);
  });

  it('ends the spare workers that have the old settings', async () => {
    await createBusyBox();
    const spare = await eventually('a spare is there', async () =>
      (await processesOf(server.stateDir)).find(({ box }) => box === 'spare'),
    );
    env['BOXRUN_INSECURE_REGISTRIES'] = 'registry.example:5000';
    await server.kill('keeper');
    await eventually('supervisor and gateway are gone', async () =>
      (await processesOf(server.stateDir)).every(({ role }) => role === 'worker' || role === 'writer'),
    );
    await server.serve();
    await eventually(
      'the old spare is gone',
      async () => (await processesOf(server.stateDir)).every(({ pid }) => pid !== spare?.pid),
      20_000,
    );
  });

  it('refuses another database while boxes run, and names the database of these boxes', async () => {
    const box = await createBusyBox();
    await server.end();
    env['BOXRUN_DB'] = join(server.stateDir, 'other.db');
    await expect(server.serve()).rejects.toThrow(/their database is .*boxrun\.db/);
    delete env['BOXRUN_DB'];
    await server.serve();
    expect((await collect(server.client, await server.client.startExec(box.id, { cmd: ['echo', 'hi'] }))).stdout).toBe(
      'hi\n',
    );
  });
});
