// `boxrun serve` on databases and state files that are not as they should be: damaged, of a newer version, held by
// another program, not writable; and state files with the pid of a process that is somebody else's. Each has a clear
// message, and what was acknowledged is there again as soon as the fault is mended.
import Database from 'better-sqlite3';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
  closeSync,
  copyFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isAlive, killQuietly, processIdentity } from '../../src/shared/process/child-process.ts';
import { statePaths } from '../../src/shared/settings/state-dir.ts';
import { startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { seedState } from '../support/servers/state-seed.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };
let stateDir: string;
let database: string;

beforeEach(async () => {
  stateDir = mkdtempSync(join(tmpdir(), 'boxrun-crash-'));
  database = join(stateDir, 'boxrun.db');
  await seedState(stateDir);
});
afterEach(() => {
  rmSync(stateDir, { recursive: true, force: true });
});

const start = () => startCrashServer({ stateDir, args: ['--workers', '0'] });

/** Makes a server with one stopped box and ends it. */
async function leaveOneBox(): Promise<void> {
  const server = await start();
  const box = await server.client.create({ ...small, name: 'kept' });
  await server.client.stopBox(box.id);
  expect(await server.end()).toBe(0);
  await server.client.close();
  await eventually('every process is gone', async () => (await processesOf(stateDir)).length === 0);
}

/** What `serve` says when it does not start; nothing of it runs then. */
async function refusal(): Promise<string> {
  const outcome = await start().then(
    (server) => server.close().then(() => 'it started'),
    (error: unknown) => String(error),
  );
  await eventually('every process is gone', async () => (await processesOf(stateDir)).length === 0);
  return outcome;
}

async function expectKept(): Promise<void> {
  const server = await start();
  expect((await server.client.listBoxes()).map(({ name, status }) => ({ name, status }))).toEqual([
    { name: 'kept', status: 'stopped' },
  ]);
  await server.client.startBox('kept');
  expect((await server.client.exec('kept', ['echo', 'here'])).stdout).toBe('here\n');
  await server.close();
}

describe('a database', () => {
  it.each(['garbage', 'a cut file', 'a torn page'] as const)(
    'that is damaged (%s) is named, left as it is, and a backup works in its place',
    async (damage) => {
      await leaveOneBox();
      copyFileSync(database, join(stateDir, 'backup'));
      if (damage === 'garbage') writeFileSync(database, 'this is no database'.repeat(1_000));
      if (damage === 'a cut file') truncateSync(database, 10_000);
      if (damage === 'a torn page') {
        const file = openSync(database, 'r+');
        writeSync(file, Buffer.alloc(4096 - 100, 0xa5), 0, 4096 - 100, 100); // The page with the list of tables.
        closeSync(file);
      }
      const damaged = readFileSync(database);
      const said = await refusal();
      expect(said).toContain(database);
      expect(said).toMatch(/damaged|malformed/);
      expect(said).toContain('backup');
      expect(readFileSync(database).equals(damaged)).toBe(true);
      copyFileSync(join(stateDir, 'backup'), database);
      await expectKept();
    },
  );

  it('of a newer version is refused, with both versions, and left as it is', async () => {
    await leaveOneBox();
    const version = (change?: number) => {
      const db = new Database(database);
      if (change !== undefined) db.pragma(`user_version = ${change}`);
      const found = db.pragma('user_version', { simple: true }) as number;
      db.close();
      return found;
    };
    const present = version();
    version(present + 1);
    const said = await refusal();
    expect(said).toContain(`version ${present + 1}`);
    expect(said).toContain(`${present}`);
    expect(version()).toBe(present + 1);
    version(present);
    await expectKept();
  });

  it('that another program holds is named, and used when that has let go', async () => {
    await leaveOneBox();
    const other = new Database(database);
    other.pragma('locking_mode = EXCLUSIVE');
    other.exec('BEGIN EXCLUSIVE');
    const said = await refusal();
    expect(said).toContain(database);
    expect(said).toContain('another program holds it');
    other.exec('ROLLBACK');
    other.close();
    await expectKept();
  });

  it('in a directory that cannot be written to is named', async () => {
    await leaveOneBox();
    execFileSync('mount', ['--bind', stateDir, stateDir]);
    try {
      execFileSync('mount', ['-o', 'remount,ro,bind', stateDir]);
      const said = await refusal();
      expect(said).toContain(stateDir);
      expect(said).toMatch(/read-only|cannot be written/);
    } finally {
      execFileSync('umount', ['--lazy', stateDir]);
    }
    await expectKept();
  });
});

describe('state files with the pid of somebody else', () => {
  let innocent: ChildProcess;
  beforeEach(() => {
    innocent = spawn('sleep', ['600'], { stdio: 'ignore' });
  });
  afterEach(() => {
    innocent.kill('SIGKILL');
  });

  async function killAll(): Promise<void> {
    for (const role of ['keeper', 'gateway', 'supervisor', 'worker', 'writer'] as const) {
      for (const { pid } of (await processesOf(stateDir)).filter((entry) => entry.role === role))
        killQuietly(pid, 'SIGKILL');
    }
    await eventually('every process is gone', async () => (await processesOf(stateDir)).length === 0);
  }

  it('never make a server signal or adopt it: its own box is taken over by a new worker', async () => {
    const identity = await processIdentity(innocent.pid ?? -1);
    if (identity === null) throw new Error('the innocent process has ended');
    const first = await start();
    const box = await first.client.create({ ...small, name: 'kept' });
    await first.client.exec(box.id, ['sh', '-c', 'sleep 4000 & echo $! > /root/pid']);
    await first.client.close();
    await killAll();
    const { runDir, workersDir } = statePaths(stateDir);
    const files = [
      ...['keeper.json', 'writer.json'].map((name) => join(runDir, name)),
      ...readdirSync(workersDir)
        .filter((name) => name.endsWith('.json'))
        .map((name) => join(workersDir, name)),
    ];
    expect(files).toHaveLength(3);
    // The pid has been given to another process since; the start time is the dead one's.
    for (const file of files)
      writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), pid: identity.pid }));
    const server: CrashServer = await start();
    await eventually(
      'the box is back',
      async () =>
        (await server.client.exec('kept', ['sh', '-c', 'kill -0 $(cat /root/pid)']).catch(() => null))?.exitCode === 0,
    );
    expect((await server.client.getBox('kept')).id).toBe(box.id);
    expect(await isAlive(identity)).toBe(true);
    await server.close();
    expect(await isAlive(identity)).toBe(true);
  });
});
