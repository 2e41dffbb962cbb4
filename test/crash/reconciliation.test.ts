// Tests reconciliation on a real server, with real processes, control groups, mounts and files that the test plants.
// The sweep ends things that have the mark of this database but belong to no box, and moves the home of such a box to
// the lost directory. It does not touch things with another mark, or without one.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { processIdentity } from '../../src/shared/process/child-process.ts';
import { newId } from '../../src/shared/ids.ts';
import { statePaths } from '../../src/shared/settings/state-dir.ts';
import { toSql, type BoxRow } from '../../src/shared/store/rows.ts';
import { collect, counted, counting, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { instanceCgroups, instanceIdOf } from '../support/host/host-state.ts';
import { getLocal } from '../support/servers/local-http.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { parsePrometheus, sumOf } from '../support/load/prometheus.ts';

const size = { image: 'base', cpu: 1, memory_mb: 64, disk_size_gb: 1 };
let server: CrashServer;
let cleanUp: (() => void)[];
beforeEach(async () => {
  cleanUp = [];
  server = await startCrashServer({
    args: ['--workers', '0'],
    env: { BOXRUN_RECONCILE_MS: '100', BOXRUN_MAX_CPU: '4' },
  });
});
afterEach(async () => {
  for (const clean of cleanUp.reverse()) clean();
  await server.close();
});

const homeOf = (boxId: string) => join(server.stateDir, 'boxes', boxId);

function plantHome(owner: string | null): string {
  const boxId = newId('box');
  mkdirSync(homeOf(boxId));
  writeFileSync(join(homeOf(boxId), 'disk.img'), Buffer.alloc(1024 * 1024, 'disk'));
  if (owner !== null)
    writeFileSync(join(homeOf(boxId), 'owner.json'), JSON.stringify({ instanceId: owner, driver: 'container' }));
  return boxId;
}

/** Starts a process with the mark of a box in its environment, like a process that the driver starts on the host. */
function plantProcess(boxId: string): ChildProcess {
  const child = spawn('sleep', ['1000'], {
    env: { PATH: process.env['PATH'], BOXRUN_BOX_HOME: homeOf(boxId) },
    stdio: 'ignore',
  });
  cleanUp.push(() => child.kill('SIGKILL'));
  return child;
}

/** Makes a control group of a box, with a process in it that has no mark. */
function plantCgroup(instanceId: string, boxId: string): { group: string; child: ChildProcess } {
  const unified = existsSync('/sys/fs/cgroup/cgroup.controllers');
  const parent = instanceCgroups(instanceId).find((path) => unified || path.includes('/freezer/')) ?? '';
  const group = join(parent, boxId);
  mkdirSync(group, { recursive: true });
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  writeFileSync(join(group, 'cgroup.procs'), String(child.pid));
  cleanUp.push(() => child.kill('SIGKILL'));
  return { group, child };
}

function must(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout.trim();
}

const isDead = async ({ exitCode, signalCode }: ChildProcess) => exitCode !== null || signalCode !== null;

async function metric(name: string, kind = ''): Promise<number | null> {
  return sumOf(parsePrometheus((await getLocal(server.stateDir, '/metrics')).text), `boxrun_reconcile_${name}`, kind);
}

/** Waits for `count` whole sweeps. A sweep that runs at the call may have looked too early, so it does not count. */
async function sweepsPass(count: number): Promise<void> {
  const from = (await metric('sweeps_total')) ?? 0;
  await eventually(`${count} sweeps`, async () => ((await metric('sweeps_total')) ?? 0) > from + count, 30_000);
}

it('reconciliation ends the processes of a box without a row, and keeps its disk in the lost directory', async () => {
  const { client, stateDir } = server;
  await client.create({ ...size, name: 'known' });
  const exec = await client.startExec('known', { cmd: counting(2000) });
  const instanceId = instanceIdOf(stateDir);
  const boxId = plantHome(instanceId);
  const marked = plantProcess(boxId);
  const { group, child } = plantCgroup(instanceId, boxId);
  mkdirSync(join(homeOf(boxId), 'mnt'));
  must('mount', '-t', 'tmpfs', 'tmpfs', join(homeOf(boxId), 'mnt'));
  const device = must('losetup', '--find', '--show', join(homeOf(boxId), 'disk.img'));
  cleanUp.push(() => spawnSync('losetup', ['--detach', device]));
  await eventually('the home is gone', async () => !existsSync(homeOf(boxId)), 30_000);
  await eventually('both processes are dead', async () => (await isDead(marked)) && (await isDead(child)));
  await eventually('the control group is gone', async () => !existsSync(group));
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(boxId);
  // The check names the file, because another program may already use the same loop device.
  expect(must('losetup', '--list', '--noheadings', '--output', 'BACK-FILE')).not.toContain(boxId);
  const { lostDir } = statePaths(stateDir);
  const [aside = ''] = readdirSync(lostDir);
  expect(aside).toMatch(new RegExp(`^${boxId}-\\d+$`));
  expect(readFileSync(join(lostDir, aside, 'disk.img')).equals(Buffer.alloc(1024 * 1024, 'disk'))).toBe(true);
  expect((await collect(client, exec)).stdout).toBe(counted(2000));
  await eventually('it is counted', async () => (await metric('settled_total', 'home')) === 1);
  for (const kind of ['home', 'process', 'cgroup', 'mount', 'loop'])
    expect(await metric('found_total', kind)).toBeGreaterThan(0);
  const lines = readFileSync(join(stateDir, 'logs', 'supervisor.log'), 'utf8')
    .split('\n')
    .filter((line) => line.includes('found by reconciliation'));
  expect(lines.map((line) => JSON.parse(line) as unknown)).toContainEqual(
    expect.objectContaining({ kind: 'home', boxId, cause: 'its box is in no database', what: homeOf(boxId) }),
  );
});

it('reconciliation does not touch homes, processes and groups of another database, or without a mark', async () => {
  const other = 'inst_anotherone12';
  const theirs = plantHome(other);
  const nobodys = plantHome(null);
  const running = [plantProcess(theirs), plantProcess(nobodys), plantProcess(newId('box'))];
  const { group, child } = plantCgroup(other, newId('box'));
  cleanUp.push(() => {
    for (const boxId of [theirs, nobodys]) rmSync(homeOf(boxId), { recursive: true });
  });
  await sweepsPass(4);
  expect([theirs, nobodys].map((boxId) => existsSync(join(homeOf(boxId), 'disk.img')))).toEqual([true, true]);
  for (const process of [...running, child]) expect(await isDead(process)).toBe(false);
  expect(existsSync(group)).toBe(true);
  expect(existsSync(statePaths(server.stateDir).lostDir)).toBe(false);
  expect(await metric('left')).toBe(3);
  expect(await metric('settled_total', 'home')).toBe(0);
  child.kill('SIGKILL');
  await eventually('it is dead', async () => isDead(child));
  for (const path of [group, dirname(group)]) rmdirSync(path);
});

it('reconciliation ends processes and control groups of a stopped box', async () => {
  const { client, stateDir } = server;
  const box = await client.create({ ...size, name: 'stopped' });
  await client.stopBox('stopped');
  const marked = plantProcess(box.id);
  const { group, child } = plantCgroup(instanceIdOf(stateDir), box.id);
  await eventually('both are dead', async () => (await isDead(marked)) && (await isDead(child)), 30_000);
  await eventually('the control group is gone', async () => !existsSync(group));
  expect(await client.getBox('stopped')).toMatchObject({ status: 'stopped' });
  await client.startBox('stopped');
});

it('a box is stopped when its engine, its worker and the supervisor were killed together', async () => {
  const { client, stateDir } = server;
  const box = await client.create({ ...size, name: 'silent' });
  const engine = Number(readFileSync(join(homeOf(box.id), 'run', 'init.pid'), 'utf8'));
  const pids = [
    (await processOf(stateDir, 'supervisor')).pid,
    (await processOf(stateDir, 'worker', box.id)).pid,
    engine,
  ];
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  const stopped = await eventually(
    'it is stopped',
    async () => {
      const now = await client.getBox('silent').catch(() => null);
      return now?.status === 'stopped' && now;
    },
    30_000,
  );
  expect(stopped.error_message).not.toBeNull();
  await eventually(
    'it starts again',
    async () =>
      client.startBox('silent').then(
        () => true,
        () => false,
      ),
    30_000,
  );
});

it('reconciliation corrects rows of boxes and commands that do not run, and removes a box without a row', async () => {
  const { client, stateDir } = server;
  const gone = await client.create({ ...size, name: 'gone' });
  const box = await client.create({ ...size, name: 'model' });
  await collect(client, await client.startExec('model', { cmd: ['true'] }));
  await client.stopBox('model');
  const db = new Database(join(stateDir, 'boxrun.db'));
  const model = db.prepare('SELECT * FROM boxes WHERE id = ?').get(box.id) as Record<string, unknown>;
  const row = (change: Partial<BoxRow>) => ({ ...model, ...toSql(change) });
  const insert = db.prepare(
    `INSERT INTO boxes (${Object.keys(model).join(', ')}) VALUES (${Object.keys(model)
      .map((name) => `$${name}`)
      .join(', ')})`,
  );
  insert.run(row({ id: newId('box'), name: 'half', state: 'creating', status: 'creating' }));
  insert.run(row({ id: newId('box'), name: 'absent', state: 'ready', status: 'running' }));
  const execId = db.prepare('SELECT id FROM execs WHERE box_id = ?').pluck().get(box.id) as string;
  db.prepare(`DELETE FROM events WHERE exec_id = ? AND type = 'exit'`).run(execId);
  db.prepare(`UPDATE execs SET status = 'running', exit_code = NULL, finished_at = NULL WHERE id = ?`).run(execId);
  db.prepare('DELETE FROM boxes WHERE id = ?').run(gone.id);
  db.close();
  await eventually(
    'the incomplete box is removed',
    async () => (await client.listBoxes()).every(({ name }) => name !== 'half'),
    30_000,
  );
  await eventually(
    'the box without an engine is stopped',
    async () => (await client.getBox('absent')).status === 'stopped',
    30_000,
  );
  const ended = await eventually(
    'the command without a process is failed',
    async () => {
      const now = await client.getExec('model', execId);
      return now.status === 'failed' && now;
    },
    30_000,
  );
  expect(ended.error_message).toContain('may be missing');
  expect((await collect(client, ended)).exit.error).toBe(ended.error_message);
  await client.create({ ...size, name: 'half' });
  await eventually(
    'the name is free',
    async () =>
      client.create({ ...size, name: 'gone' }).then(
        () => true,
        () => false,
      ),
    30_000,
  );
  await eventually('its home is set aside', async () => !existsSync(homeOf(gone.id)), 30_000);
});

it('reconciliation removes unknown workers, and the files, sockets and spills of dead processes', async () => {
  const { stateDir } = server;
  const { runDir, workersDir, spillDir } = statePaths(stateDir);
  const { pid } = spawnSync('true');
  const planted = [
    join(workersDir, `${newId('wrk')}.json`),
    join(workersDir, `${newId('wrk')}.sock`),
    join(workersDir, `${newId('wrk')}.sock.${pid}`),
    join(runDir, `writer.sock.${pid}`),
    join(stateDir, `boxrun.sock.${pid}`),
    join(spillDir, `${newId('wrk')}.spill.${pid}`),
  ];
  for (const path of planted) writeFileSync(path, '{}');
  const worker = spawn('sleep', ['1000'], { stdio: 'ignore' });
  cleanUp.push(() => worker.kill('SIGKILL'));
  const workerId = newId('wrk');
  const identity = await processIdentity(worker.pid ?? 0);
  planted.push(join(workersDir, `${workerId}.json`));
  writeFileSync(planted.at(-1) ?? '', JSON.stringify({ workerId, boxId: null, generation: 0, ...identity }));
  await eventually('they are gone', async () => planted.every((path) => !existsSync(path)), 30_000);
  await eventually('the unknown worker is dead', () => isDead(worker));
  expect(existsSync(join(runDir, 'writer.sock'))).toBe(true);
  expect((await server.client.create({ ...size, name: 'after' })).status).toBe('running');
});
