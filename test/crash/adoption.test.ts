// What a new supervisor and a new worker find: one worker that hangs holds up nobody but its own box, and a box may
// have had any number of commands.
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';

const servedWithinMs = 8_000;
let server: CrashServer;

beforeEach(async () => {
  server = await startCrashServer({ args: ['--workers', '0'], env: { BOXRUN_RECONCILE_MS: '500' } });
});
afterEach(async () => {
  await server.close();
});

const createBox = (name: string) => server.client.create({ image: 'base', name, cpu: 1, memory_mb: 128 });
const echo = async (box: string) =>
  (await collect(server.client, await server.client.startExec(box, { cmd: ['echo', 'served'] }))).stdout;

/** Keeps a process from running, and from dying: of a group that is frozen not even SIGKILL is obeyed. */
function freezeGroup(pid: number): { thaw(): void } {
  const group = `/sys/fs/cgroup/freezer/boxrun-test-${pid}`;
  mkdirSync(group);
  writeFileSync(join(group, 'cgroup.procs'), String(pid));
  writeFileSync(join(group, 'freezer.state'), 'FROZEN');
  const thaw = () => {
    writeFileSync(join(group, 'freezer.state'), 'THAWED');
  };
  onTestFinished(async () => {
    thaw();
    await eventually('the group is empty', async () => {
      try {
        rmdirSync(group);
        return true;
      } catch {
        return false;
      }
    });
  });
  return { thaw };
}

describe('a worker that hangs when the supervisor is started again', () => {
  it('holds up only its own box when it is stopped, and that box runs again under another worker', async () => {
    const [hanging, other] = [await createBox('hanging'), await createBox('other')];
    const { pid } = await processOf(server.stateDir, 'worker', hanging.id);
    process.kill(pid, 'SIGSTOP');
    const startedAt = performance.now();
    await server.kill('supervisor');
    await eventually(
      'the other box is served',
      () =>
        echo(other.id).then(
          (said) => said === 'served\n',
          () => false,
        ),
      servedWithinMs,
    );
    console.log(`the other box is served again after ${Math.round(performance.now() - startedAt)} ms`);
    await eventually(
      'the box of the stopped worker is served',
      () =>
        echo(hanging.id).then(
          (said) => said === 'served\n',
          () => false,
        ),
      30_000,
    );
  });

  it(
    'and cannot be killed sets its own box to error, others are served, and it can be removed when the worker can die',
    { timeout: 120_000 },
    async () => {
      const [hanging, other] = [await createBox('hanging'), await createBox('other')];
      const { pid } = await processOf(server.stateDir, 'worker', hanging.id);
      const frozen = freezeGroup(pid);
      await server.kill('supervisor');
      await eventually(
        'the other box is served',
        () =>
          echo(other.id).then(
            (said) => said === 'served\n',
            () => false,
          ),
        servedWithinMs,
      );
      await eventually(
        'the box is in error',
        async () => (await server.client.getBox(hanging.id)).status === 'error',
        30_000,
      );
      const { error_code: code, error_message: message } = await server.client.getBox(hanging.id);
      expect({ code, message }).toEqual({
        code: 'TIMEOUT',
        message: expect.stringContaining('its worker hangs') as string,
      });
      expect(await echo(other.id)).toBe('served\n');
      frozen.thaw();
      await server.client.removeBox(hanging.id, { force: true });
      await server.client.create({ image: 'base', name: 'hanging', cpu: 1, memory_mb: 128 });
    },
  );
});

describe('a box with so many commands behind it that their names fit in no frame', () => {
  it('is taken over by a new worker, with its background children', { timeout: 180_000 }, async () => {
    const box = await createBox('old');
    const background = await server.client.startExec(box.id, {
      cmd: ['sh', '-c', 'setsid sleep 4711 >/dev/null 2>&1 </dev/null & echo started'],
    });
    await collect(server.client, background);
    await server.end();
    await addFinishedExecs(join(server.stateDir, 'boxrun.db'), box.id, 300_000);
    await server.serve();
    await server.kill('worker', box.id);
    await eventually(
      'it is served',
      () =>
        echo(box.id).then(
          (said) => said === 'served\n',
          () => false,
        ),
      60_000,
    );
    const ps = await collect(server.client, await server.client.startExec(box.id, { cmd: ['ps'] }));
    expect(ps.stdout).toContain('sleep 4711');
  });
});

/**
 * With long names: 20 MB of them. The writer of a server that has ended stays while workers do; it lets others write
 * between its changes.
 */
async function addFinishedExecs(path: string, boxId: string, count: number): Promise<void> {
  const db = new Database(path);
  db.pragma('synchronous = OFF');
  db.prepare(
    `
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
    INSERT INTO execs (id, box_id, status, cmd, exit_code, created_at, finished_at, generation)
    SELECT printf('exec_%060d', i), ?, 'succeeded', '["true"]', 0, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:01.000Z', 1 FROM n`,
  ).run(count, boxId);
  db.close();
}
