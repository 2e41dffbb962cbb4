// Tests commands with very much output, or whose output stays open, against a real server. Every byte is kept, other
// clients do not wait for them, and no process grows.
import Database from 'better-sqlite3';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Exec } from '../../src/sdk/index.ts';
import { limits } from '../../src/shared/limits.ts';
import { collect } from '../support/servers/crash-server.ts';
import { compareLatency, expectBoundedMemory } from '../support/load/load.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let loud: string;
let other: string;

beforeAll(async () => {
  server = await startServer({ maxCpu: 8 });
  loud = (await server.client.create({ image: 'base', name: 'loud', cpu: 1, memory_mb: 128, disk_size_gb: 2 })).id;
  other = (await server.client.create({ image: 'base', name: 'other', cpu: 1, memory_mb: 128 })).id;
});
afterAll(async () => {
  await server.close();
});

const short = () => server.client.startExec(other, ['true']);

/** The output of a command in the database. */
function kept(execId: string): { bytes: number; events: number; sha256: string } {
  const db = new Database(join(server.stateDir, 'boxrun.db'), { readonly: true });
  try {
    const hash = createHash('sha256');
    let bytes = 0;
    let events = 0;
    for (const row of db
      .prepare("SELECT data FROM events WHERE exec_id = ? AND type = 'log' ORDER BY seq")
      .iterate(execId)) {
      const { data } = row as { data: Buffer };
      hash.update(data);
      bytes += data.length;
      events++;
    }
    return { bytes, events, sha256: hash.digest('hex') };
  } finally {
    db.close();
  }
}

it(
  'a command that prints 1 GB loses none of it, and slows others by less than a fifth',
  { timeout: 300_000 },
  async () => {
    const megabytes = 1_000;
    const block = `${'0123456789abcdef'.repeat(6)}abc\n`.repeat(10_000);
    await server.client.upload(loud, Buffer.from(block), '/root/block');
    const startedAt = performance.now();
    const printing = await server.client.startExec(loud, [
      'cat',
      ...Array.from({ length: megabytes }, () => '/root/block'),
    ]);
    const computing = await server.client.startExec(loud, ['sh', '-c', 'while :; do :; done']);
    const tell = (exec: Exec, name: 'SIGCONT' | 'SIGSTOP') => server.client.signalExec(loud, exec.id, name);
    await tell(printing, 'SIGSTOP');
    await tell(computing, 'SIGSTOP');
    const printed = {
      on: async () => {
        await tell(printing, 'SIGCONT');
      },
      off: async () => {
        await tell(printing, 'SIGSTOP');
      },
    };
    const toIdle = await compareLatency('1 GB of output, to an idle box', short, printed, { samples: 20 });
    // A box may use its processor, which slows the others by an amount that depends on this machine. Printing must not
    // slow them more.
    await tell(computing, 'SIGCONT');
    const toComputing = await compareLatency(
      '1 GB of output, to a box that computes',
      short,
      {
        on: async () => {
          await tell(computing, 'SIGSTOP');
          await printed.on();
        },
        off: async () => {
          await printed.off();
          await tell(computing, 'SIGCONT');
        },
      },
      { samples: 20 },
    );
    expect((await server.client.getExec(loud, printing.id)).status).toBe('running'); // The load was there all the time.
    await server.client.cancelExec(loud, computing.id);
    await printed.on();
    await eventually(
      'it has ended',
      async () => (await server.client.getExec(loud, printing.id)).status === 'succeeded',
      200_000,
    );
    console.log(`1 GB of output: ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
    const whole = createHash('sha256');
    for (let count = 0; count < megabytes; count++) whole.update(block);
    expect(kept(printing.id)).toMatchObject({ bytes: megabytes * 1_000_000, sha256: whole.digest('hex') });
    await expectBoundedMemory(server.stateDir, '1 GB of output');
    expect(toIdle.ratio).toBeLessThan(1.2);
    expect(toComputing.ratio).toBeLessThan(1.2);
  },
);

it('a million short lines arrive in order, and in fewer events than lines', { timeout: 120_000 }, async () => {
  const lines = 1_000_000;
  const startedAt = performance.now();
  const exec = await server.client.startExec(loud, ['seq', '1', `${lines}`]);
  const whole = createHash('sha256');
  let length = 0;
  for (let line = 1; line <= lines; line++) {
    whole.update(`${line}\n`);
    length += `${line}\n`.length;
  }
  const seen = createHash('sha256');
  let seq = -1;
  for await (const event of server.client.execEvents(exec)) {
    expect(event.seq).toBe(++seq);
    if (event.type === 'log') seen.update(event.bytes);
  }
  console.log(`a million lines: ${((performance.now() - startedAt) / 1000).toFixed(1)} s, ${seq} events`);
  const sha256 = whole.digest('hex');
  expect(seen.digest('hex')).toBe(sha256);
  const inDatabase = kept(exec.id);
  expect(inDatabase).toMatchObject({ bytes: length, sha256 });
  expect(inDatabase.events).toBeLessThan(lines / 100);
  await expectBoundedMemory(server.stateDir, 'a million lines');
});

it('a command that closes its output runs until it ends, and costs nothing meanwhile', async () => {
  await inLoud('mkfifo /root/gate');
  const waiting = await server.client.startExec(loud, [
    'sh',
    '-c',
    'echo before; exec >&- 2>&-; read line </root/gate; exit 5',
  ]);
  await eventually(
    'it has closed its output',
    async () =>
      (
        await server.client.exec(loud, [
          'sh',
          '-c',
          'for f in /proc/[0-9]*; do grep -qs "read line </root" $f/cmdline && [ ! -e $f/fd/1 ] && exit 0; done; exit 1',
        ])
      ).exitCode === 0,
  );
  const { pid } = await processOf(server.stateDir, 'worker', loud);
  const before = await processorMs(pid);
  for (let count = 0; count < 100; count++) await short();
  expect((await processorMs(pid)) - before).toBeLessThan(300); // The commands took 1,500 ms or more.
  expect((await server.client.getExec(loud, waiting.id)).status).toBe('running');
  await inLoud('echo go >/root/gate');
  expect(await collect(server.client, waiting)).toMatchObject({
    stdout: 'before\n',
    exit: { exitCode: 5, error: null },
  });
});

async function inLoud(script: string): Promise<void> {
  await server.client.exec(loud, ['sh', '-c', script]);
}

/** The processor time of a process in milliseconds. */
async function processorMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const [utime = 0, stime = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return (utime + stime) * 10;
}

it('commands end before children that hold their output, and the children live until the box stops', async () => {
  const count = 20;
  const startedAt = performance.now();
  const execs = await Promise.all(
    Array.from({ length: count }, () => server.client.startExec(loud, ['sh', '-c', 'sleep 4321 & echo started'])),
  );
  for (const exec of execs)
    expect(await collect(server.client, exec)).toMatchObject({
      stdout: 'started\n',
      exit: { exitCode: 0, error: null },
    });
  expect(performance.now() - startedAt).toBeLessThan(limits.exitDrainMs + 5_000);
  const children = async () =>
    (await server.client.exec(loud, ['sh', '-c', 'ps | grep -c "[s]leep 4321"'])).stdout.trim();
  expect(await children()).toBe(`${count}`);
  await server.client.stopBox(loud);
  await server.client.startBox(loud);
  expect(await children()).toBe('0');
});
