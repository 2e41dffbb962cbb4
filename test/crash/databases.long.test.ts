// Tests a real `boxrun serve` on a bad database (damaged, of a newer version, locked, not writable) and on state files
// with the pid of a foreign process. Each fault has a clear message, and everything acknowledged is there again when
// the fault is repaired.
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
import { copyPreparedState } from '../support/servers/prepared-state.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };
let stateDir: string;
let database: string;

beforeEach(async () => {
  stateDir = mkdtempSync(join(tmpdir(), 'boxrun-crash-'));
  database = join(stateDir, 'boxrun.db');
  await copyPreparedState(stateDir);
});
afterEach(() => {
  rmSync(stateDir, { recursive: true, force: true });
});

const start = () => startCrashServer({ stateDir, args: ['--workers', '0'] });

/** Starts a server, creates one stopped box, and ends the server. */
async function leaveOneBox(): Promise<void> {
  const server = await start();
  const box = await server.client.create({ ...small, name: 'kept' });
  await server.client.stopBox(box.id);
  expect(await server.end()).toBe(0);
  await server.client.close();
  await eventually('every process is gone', async () => (await processesOf(stateDir)).length === 0);
}

/** Returns the error of a `serve` that does not start, after all its processes have gone. */
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

describe('serve on a bad database', () => {
  it.each(['garbage', 'a cut file', 'a torn page'] as const)(
    'reports the damage (%s), does not change the file, and starts with a backup in its place',
    async (damage) => {
      await leaveOneBox();
      copyFileSync(database, join(stateDir, 'backup'));
      if (damage === 'garbage') writeFileSync(database, 'this is no database'.repeat(1_000));
      if (damage === 'a cut file') truncateSync(database, 10_000);
      if (damage === 'a torn page') {
        const file = openSync(database, 'r+');
        writeSync(file, Buffer.alloc(4096 - 100, 0xa5), 0, 4096 - 100, 100); // The first page has the list of tables.
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

  it('refuses a newer version, names both versions, and does not change the file', async () => {
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

  it('reports that another program has locked it, and starts after the lock is released', async () => {
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

  it('reports that its directory is read-only, and starts after that is repaired', async () => {
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

describe('serve on state files with the pid of a foreign process', () => {
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

  it('does not signal or adopt that process, and gives the box to a new worker', async () => {
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
    // As if the kernel had given the pid to another process: the pid is reused, the start time is still the old one.
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
