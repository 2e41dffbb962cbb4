// Tests an upgrade with two real programs: the program of an earlier commit serves boxes, then the present program
// continues in the same state directory. Nothing is lost, and old workers work for the new supervisor. Every later
// change must keep these tests green.
import { copyFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Box, Exec } from '../../src/shared/api.ts';
import { BoxRunError } from '../../src/sdk/index.ts';
import { probeFileOf, statePaths } from '../../src/shared/settings/state-dir.ts';
import { schemaVersion } from '../../src/shared/store/migrations.ts';
import {
  collect,
  expectSameText,
  startCrashServer,
  type Collected,
  type CrashServer,
} from '../support/servers/crash-server.ts';
import { expectIntegrity } from '../support/host/host-state.ts';
import { getLocal } from '../support/servers/local-http.ts';
import { installOldProgram, unpackOldState, upgradeProgram } from '../support/servers/old-program.ts';
import { eventually as eventuallyWithin } from '../support/runs/eventually.ts';
import { processesOf, processOf, type Role } from '../support/host/processes.ts';
import { parsePrometheus, sumOf } from '../support/load/prometheus.ts';

/** A longer bound, because a slow machine needs several seconds for two starts of a server. */
const eventually: typeof eventuallyWithin = (what, condition) => eventuallyWithin(what, condition, 30_000);

const size = { image: 'base', cpu: 1, memory_mb: 64, disk_size_gb: 1 };
const maxCpu = 6;
/** Prints up to a thousand lines a second until the file /root/done exists. Then it ends with exit code 7. */
const countingUntilDone = [
  'sh',
  '-c',
  'i=0; until [ -e /root/done ]; do echo line-$i; i=$((i+1)); [ $((i%20)) = 0 ] && sleep 0.02; done; echo $i; exit 7',
];
/** Reads two lines, prints them, and ends with exit code 5. */
const reading = { cmd: ['sh', '-c', 'read a; read b; echo "$a and $b"; exit 5'], stdin: true };
const key = { idempotencyKey: 'sent-again-after-the-upgrade' };

/** The files of all these tests. The old program has the same path in each test, so that its probe can be kept. */
let directory: string;
let programDir: string;
let stateDir: string;
let server: CrashServer;
let hasFailed = false;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'boxrun-upgrade-'));
  programDir = join(directory, 'program');
});
beforeEach(async ({ onTestFailed }) => {
  onTestFailed(async () => {
    hasFailed = true;
    await server.killAll();
  });
  await rm(programDir, { recursive: true, force: true });
  stateDir = await mkdtemp(join(directory, 'state-'));
});
afterAll(async () => {
  if (hasFailed) console.log(`the state directories stay in ${directory}`);
  else await rm(directory, { recursive: true, force: true });
});

/** The state of the old server at the moment when its program is replaced. */
interface Before {
  /** This box has a worker of the old program, and a command that counts. */
  readonly counting: Box;
  readonly followed: Promise<Collected>;
  readonly stopped: Box;
  /** This box has a worker of the old program, and a command that waits for its second line. */
  readonly idle: Box;
  readonly waiting: Exec;
  /** The commands of the box `counting`, as the old server reported them. */
  readonly execs: readonly Exec[];
  readonly workers: readonly number[];
  readonly writer: number;
}

async function run(box: string, command: string): Promise<string> {
  return (await collect(server.client, await server.client.startExec(box, { cmd: ['sh', '-c', command] }))).stdout;
}

async function workerPids(): Promise<number[]> {
  return (await processesOf(stateDir)).filter(({ role }) => role === 'worker').map(({ pid }) => pid);
}

async function startOldServer(): Promise<Before> {
  const program = await installOldProgram(programDir);
  await withProbe('old', async () => {
    server = await startCrashServer({
      stateDir,
      program,
      args: ['--workers', '1'],
      env: { BOXRUN_MAX_CPU: String(maxCpu) },
    });
  });
  const { client } = server;
  const counting = await client.create({ ...size, name: 'counting', labels: { tier: 'web' } });
  const stopped = await client.create({ ...size, name: 'stopped' });
  const idle = await client.create({ ...size, name: 'idle' });
  await run(stopped.id, 'echo kept > /root/file');
  await client.stopBox(stopped.id);
  await collect(client, await client.startExec(counting.id, { cmd: ['sh', '-c', 'echo out; echo err >&2; exit 3'] }));
  const exec = await client.startExec(counting.id, { cmd: countingUntilDone });
  const followed = collect(client, exec);
  followed.catch(() => undefined); // The test awaits it later.
  const waiting = await client.startExec(idle.id, reading, key);
  const input = await client.attachExec(idle.id, waiting.id, { output: false });
  input.exited.catch(() => undefined); // The server ends before the command.
  await input.write('one\n');
  await eventually('it counts', async () => (await eventCount(exec)) > 20);
  await eventually('a spare is there', async () => (await processesOf(stateDir)).some(({ box }) => box === 'spare'));
  return {
    counting,
    followed,
    stopped,
    idle,
    waiting,
    execs: await client.listExecs(counting.id),
    workers: await workerPids(),
    writer: (await processOf(stateDir, 'writer')).pid,
  };
}

/** Counts the committed output events of a command. */
async function eventCount(exec: Exec): Promise<number> {
  const { text } = await getLocal(stateDir, `/v1/boxes/${exec.box_id}/exec/${exec.id}/events?follow=false`);
  return text.split('\nevent: log\n').length - 1;
}

let upgradedAt = 0;
async function startNewServer(): Promise<void> {
  upgradedAt = Date.now();
  await withProbe('new', () => server.serve());
}

/** Starts a server with the probe of an earlier test, because a probe takes seconds. Keeps the probe afterwards. */
async function withProbe(program: 'old' | 'new', start: () => Promise<void>): Promise<void> {
  const kept = join(directory, `${program}-probe.json`);
  const probeFile = program === 'old' ? join(stateDir, 'probe.json') : probeFileOf(stateDir, 'container');
  await copyFile(kept, probeFile).catch(() => undefined);
  await start();
  await copyFile(probeFile, kept);
}

/** Expects that the counting command went on under its old worker, with no line of its output missing or doubled. */
async function expectNothingLost({ counting, followed, execs, stopped, idle, waiting }: Before): Promise<void> {
  const { client } = server;
  await run(counting.id, 'touch /root/done');
  const { stdout, stderr, exit } = await followed;
  const lines = Number(/\n(\d+)\n$/.exec(stdout)?.[1]);
  expectSameText(stdout, `${Array.from({ length: lines }, (_, index) => `line-${index}\n`).join('')}${lines}\n`);
  expect({ stderr, exitCode: exit.exitCode, error: exit.error }).toEqual({ stderr: '', exitCode: 7, error: null });
  const later = await client.listExecs(counting.id);
  for (const exec of execs) {
    expect(later).toContainEqual(
      exec.status === 'running'
        ? expect.objectContaining({ id: exec.id, status: 'failed', exit_code: 7 })
        : { ...exec, usage: null }, // The old server did not measure it.
    );
  }
  const [first] = execs.filter(({ exit_code: code }) => code === 3);
  expect(await collect(client, first as Exec)).toMatchObject({
    stdout: 'out\n',
    stderr: 'err\n',
    exit: { exitCode: 3 },
  });
  expect(await client.getBox('counting')).toMatchObject({
    id: counting.id,
    status: 'running',
    labels: { tier: 'web' },
    started_at: counting.started_at,
  });
  expect((await client.startExec(idle.id, reading, key)).id).toBe(waiting.id);
  const input = await client.attachExec(idle.id, waiting.id, { output: false });
  await input.write('two\n');
  expect(await collect(client, waiting)).toMatchObject({ stdout: 'one and two\n', exit: { exitCode: 5 } });
  input.close();
  await client.startBox(stopped.id);
  expect(await run(stopped.id, 'cat /root/file')).toBe('kept\n');
  expect(await run(idle.id, 'echo here')).toBe('here\n');
}

/** Expects that the boxes hold exactly `cpusHeld` CPUs together. */
async function expectQuota(cpusHeld: number): Promise<void> {
  const asked = maxCpu - cpusHeld + 1;
  const refusal: unknown = await server.client.create({ ...size, cpu: asked }).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(BoxRunError);
  expect(refusal).toMatchObject({
    code: 'RESOURCE_EXCEEDED',
    message: expect.stringContaining(`${cpusHeld} of ${maxCpu} in use`) as string,
  });
}

/** Expects that the database is intact and has the schema version of the new program. */
function expectMigrated(): void {
  expectIntegrity(stateDir);
  const db = new Database(join(stateDir, 'boxrun.db'), { readonly: true });
  expect(db.pragma('user_version', { simple: true })).toBe(schemaVersion);
  db.close();
}

/** Expects that no process of either program has logged an error or a misunderstood message since the upgrade. */
async function expectQuietLogs(): Promise<void> {
  const { logsDir } = statePaths(stateDir);
  const logs = await Promise.all((await readdir(logsDir)).map((name) => readFile(join(logsDir, name), 'utf8')));
  const lines = logs
    .join('')
    .split('\n')
    .filter((line) => line !== '');
  const misunderstood = /does not fit|do not fit|of unknown form|no request|not for a|no hello|spoke|speaks|unexpected/;
  const isBad = (line: string) => {
    if (!line.startsWith('{')) return true; // Node prints a crash as plain text.
    const { level, time } = JSON.parse(line) as { level: number; time: number };
    return time >= upgradedAt && (level >= 50 || misunderstood.test(line));
  };
  expect(lines.filter(isBad)).toEqual([]);
}

/** Expects that a worker of the old program does everything that a client can ask of it. */
async function expectWholeService(box: string): Promise<void> {
  const { client } = server;
  const reader = await client.startExec(box, { cmd: ['sh', '-c', 'read a; echo "got $a"; cat'], stdin: true });
  const input = await client.attachExec(box, reader.id);
  await input.write('one\ntwo\n');
  input.end();
  expect(await collect(client, reader)).toMatchObject({ stdout: 'got one\ntwo\n', exit: { exitCode: 0 } });
  const terminal = await client.startExec(box, {
    cmd: ['sh', '-c', 'stty size; [ -t 0 ] && echo "tty $TERM"'],
    tty: true,
    cols: 90,
    rows: 30,
  });
  // The OCI runtime of the old program sometimes writes to the terminal as well, so this checks only a part.
  expect((await collect(client, terminal)).stdout).toContain('30 90\r\ntty xterm-256color\r\n');
  const shell = await client.attach(box, { shell: '/bin/sh' });
  await shell.write('exit 4\n');
  expect(await shell.exited).toMatchObject({ exitCode: 4 });
  const bytes = Buffer.alloc(300_000, 'abc\n');
  await client.upload(box, bytes, '/root/up');
  expect(await run(box, 'wc -c < /root/up')).toBe('300000\n');
  const { body } = await client.download(box, '/root/up');
  expect(Buffer.from(await new Response(body).arrayBuffer()).equals(bytes)).toBe(true);
  const [canceled, signaled] = [
    await client.startExec(box, ['sleep', '1000']),
    await client.startExec(box, ['sleep', '1000']),
  ];
  expect(await client.cancelExec(box, canceled.id)).toMatchObject({ status: 'canceled' });
  await client.signalExec(box, signaled.id, 'TERM');
  expect(await collect(client, signaled)).toMatchObject({ exit: { exitCode: 143 } });
  const samples = parsePrometheus((await getLocal(stateDir, '/metrics')).text);
  expect(sumOf(samples, 'boxrun_box_memory_bytes', box)).toBeGreaterThan(0);
  // An old worker says less than a present one, and both say this.
  const { cpu_seconds: cpuSeconds, memory_bytes: memoryBytes } = await client.boxStats(box);
  expect([cpuSeconds, memoryBytes]).not.toContain(null);
}

describe('an upgrade loses nothing', () => {
  it('after the old server has ended in order, and old workers do everything for the new supervisor', async () => {
    const before = await startOldServer();
    const { client } = server;
    await upgradeProgram(programDir);
    // The old keeper still runs, but every process that it starts from now on has the new program.
    const late = await client.create({ ...size, name: 'late' });
    await eventually('a spare of the new program is there', async () =>
      (await processesOf(stateDir)).some(({ box, pid }) => box === 'spare' && !before.workers.includes(pid)),
    );
    for (const role of ['supervisor', 'gateway'] as const) await server.kill(role);
    const later = await eventually('both are back', () => client.create({ ...size, name: 'later' }).catch(() => null));
    for (const { id } of [before.idle, late, later]) expect(await run(id, 'echo mixed')).toBe('mixed\n');
    // The writer is still the old one.
    expect((await client.updateBox(later.id, { name: 'renamed', labels: { mixed: 'yes' } })).name).toBe('renamed');
    expect(await server.end()).toBe(0);
    await startNewServer();
    for (const { id } of [before.counting, before.idle])
      expect(before.workers).toContain((await processOf(stateDir, 'worker', id)).pid);
    expect(await client.getBox('renamed')).toMatchObject({ id: later.id, labels: { mixed: 'yes' } });
    await expectQuota(4);
    await expectWholeService(before.counting.id);
    await expectNothingLost(before);
    expect([await run(late.id, 'echo late'), await run(later.id, 'echo later')]).toEqual(['late\n', 'later\n']);
    await run(before.counting.id, 'echo stays > /root/file; sync');
    expect((await client.stopBox(before.counting.id)).status).toBe('stopped');
    await expectQuota(4);
    await client.startBox(before.counting.id);
    expect(before.workers).not.toContain((await processOf(stateDir, 'worker', before.counting.id)).pid);
    expect(await run(before.counting.id, 'cat /root/file')).toBe('stays\n');
    expectMigrated();
    await expectQuietLogs();
    await server.close();
  });

  it.each<[string, ...Role[]]>([
    ['keeper is killed while its writer lives', 'keeper'],
    ['keeper and writer are killed', 'keeper', 'writer'],
  ])('when the old %s', async (_, ...killed) => {
    const before = await startOldServer();
    const { client } = server;
    for (const role of killed) await server.kill(role);
    await eventually('only what outlives a keeper is left', async () =>
      (await processesOf(stateDir)).every(({ role }) => role === 'worker' || role === 'writer'),
    );
    await upgradeProgram(programDir);
    await startNewServer();
    const writer = await processOf(stateDir, 'writer');
    expect(writer.pid).not.toBe(before.writer);
    for (const { id } of [before.counting, before.idle])
      expect(before.workers).toContain((await processOf(stateDir, 'worker', id)).pid);
    await expectQuota(2);
    const spare = await eventually('the only spare is one of the new program', async () => {
      const spares = (await processesOf(stateDir)).filter(({ box }) => box === 'spare');
      return spares.length === 1 && !before.workers.includes(spares[0]?.pid ?? -1) && spares[0];
    });
    await server.kill('supervisor');
    await eventually('the next supervisor has taken over', () => run(before.idle.id, 'echo back').catch(() => null));
    expect((await processesOf(stateDir)).filter(({ box }) => box === 'spare')).toEqual([spare]);
    await expectNothingLost(before);
    await expectQuietLogs();
    await server.kill('worker', before.idle.id);
    await eventually('a new worker has taken the box over', () => run(before.idle.id, 'echo after').catch(() => null));
    expect(before.workers).not.toContain((await processOf(stateDir, 'worker', before.idle.id)).pid);
    expect(await client.getBox('idle')).toMatchObject({ status: 'running', error_code: null });
    expectMigrated();
    await server.close();
  });
});

describe('the new program on a state directory of the old program', () => {
  it('shows every box, command and event', async () => {
    const old = await unpackOldState(stateDir);
    upgradedAt = Date.now();
    server = await startCrashServer({ stateDir, args: ['--workers', '0'] });
    const { client } = server;
    const boxes = await client.listBoxes();
    expect(boxes).toMatchObject(old.boxes);
    expect(new Set(boxes.map(({ status }) => status))).toEqual(new Set(['stopped', 'error']));
    for (const box of boxes) expect(await client.listExecs(box.id)).toMatchObject(old.execs[box.id] ?? []);
    const execs = Object.values(old.execs).flat() as unknown as Exec[];
    expect(execs.length).toBeGreaterThan(3);
    for (const exec of execs) {
      const path = `/v1/boxes/${exec.box_id}/exec/${exec.id}/events?follow=false`;
      expect(readStream((await getLocal(stateDir, path)).text)).toMatchObject(readStream(old.events[exec.id] ?? ''));
    }
    expect((await client.listBoxes({ labels: ['tier=web'] })).map(({ name }) => name)).toEqual(['web']);
    const made = await client.create({ ...size, name: 'new' });
    expect(await run(made.id, 'echo works')).toBe('works\n');
    expectMigrated();
    await expectQuietLogs();
    await server.close();
  });
});

/** Parses the events of a stream, with their data as JSON. */
function readStream(text: string): { id: string | undefined; event: string | undefined; data: unknown }[] {
  return text
    .split('\n\n')
    .filter((block) => block.includes('data:'))
    .map((block) => {
      const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, 'm').exec(block)?.[1];
      return { id: field('id'), event: field('event'), data: JSON.parse(field('data') ?? 'null') as unknown };
    });
}
