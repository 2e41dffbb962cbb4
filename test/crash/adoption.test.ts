// Tests how a new supervisor adopts workers, and how a new worker takes over a box, on a real server with the container
// driver. A worker that hangs delays only its own box. A box may have any number of commands in its history.
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

/** Freezes a process with a control group. Then even SIGKILL has no effect until the group is thawed. */
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

describe('when the supervisor restarts while a worker hangs', () => {
  it('the other boxes work at once, and the box of the worker works again under another worker', async () => {
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
    'and the worker cannot be killed, its box goes to error, and can be removed after the worker has died',
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

describe('a box with a history of 300,000 commands', () => {
  it(
    'gets a new worker when its worker is killed, and keeps its background processes',
    { timeout: 180_000 },
    async () => {
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
    },
  );
});

/**
 * Adds commands with long ids, 20 MB of them, so that their list does not fit into one IPC frame. The writer still
 * runs, because a worker does. It locks the database only during its own changes, so this function can write, too.
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
