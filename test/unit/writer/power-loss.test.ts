// Tests that an acknowledged row is on the disk, with a real writer process. Copies of its files at any moment hold
// every acknowledged row, even if the unacknowledged end of the log is torn off. The system calls show that each answer
// waits for fsync or fdatasync of the log.
import Database from 'better-sqlite3';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { noWriterNotices, writerContract } from '../../../src/shared/contracts/writer.ts';
import { connectContract } from '../../../src/shared/ipc/client.ts';
import { runTypescript } from '../../support/runs/typescript-child.ts';
import { createRandom } from '../../support/runs/random.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';
import { boxRow } from './setup.ts';

async function startWriter() {
  const directory = temporaryDirectory();
  const { child, pid, line } = await runTypescript(
    `process.env.TEST_DIR = ${JSON.stringify(directory)}; await import('./test/fixtures/writer-child.ts');`,
  );
  expect(await line()).toBe('ready');
  const peer = await connectContract({
    path: join(directory, 'writer.sock'),
    contract: writerContract,
    hello: { role: 'supervisor' },
    notices: noWriterNotices,
  });
  onTestFinished(() => {
    peer.close('done');
  });
  const acknowledged: string[] = [];
  return {
    directory,
    child,
    pid,
    acknowledged,
    /** Inserts one row. The caller waits for it, so at most one insert is in progress. */
    async insert() {
      const id = `box_${String(acknowledged.length).padStart(12, '0')}`;
      await peer.request('insertBox', { box: boxRow({ id, env: { FILL: 'x'.repeat(3_000) } }) });
      acknowledged.push(id);
    },
  };
}

const walHeaderBytes = 32;
const frameHeaderBytes = 24;

/** The start and the end of each committed transaction in a log, in the file format of SQLite's WAL. */
function commitsOf(wal: Buffer): { from: number; to: number }[] {
  if (wal.length < walHeaderBytes) return [];
  const frameBytes = frameHeaderBytes + wal.readUInt32BE(8);
  const salt = wal.subarray(16, 24);
  const commits = [];
  let from = walHeaderBytes;
  for (let at = from; at + frameBytes <= wal.length && wal.subarray(at + 8, at + 16).equals(salt); at += frameBytes) {
    if (wal.readUInt32BE(at + 4) === 0) continue; // This frame is not the last one of its transaction.
    commits.push({ from, to: at + frameBytes });
    from = at + frameBytes;
  }
  return commits;
}

function open(directory: string, wal: Buffer): { rows: string[]; integrity: unknown } {
  const copy = join(temporaryDirectory(), 'boxrun.db');
  copyFileSync(join(directory, 'boxrun.db'), copy);
  writeFileSync(`${copy}-wal`, wal);
  const db = new Database(copy);
  try {
    return {
      rows: db.prepare('SELECT id FROM boxes ORDER BY id').pluck().all() as string[],
      integrity: db.pragma('integrity_check', { simple: true }),
    };
  } finally {
    db.close();
  }
}

it('every acknowledged row is on the disk at any moment, even if the end of the log is torn off', async () => {
  const random = createRandom(20_261_123);
  const writer = await startWriter();
  let going = true;
  const work = (async () => {
    while (going) await writer.insert();
  })();
  let torn = 0;
  for (let round = 0; round < 25; round++) {
    await delay(random.whole(2, 40));
    process.kill(writer.pid, 'SIGSTOP');
    await delay(5); // The answers that the writer had already sent arrive in this time.
    const acknowledged = [...writer.acknowledged];
    const wal = readFileSync(join(writer.directory, 'boxrun.db-wal'));
    const whole = open(writer.directory, wal);
    expect(whole.integrity).toBe('ok');
    expect(whole.rows.slice(0, acknowledged.length)).toEqual(acknowledged);
    // After a power cut, the part of the log without an acknowledgement may be shorter or have other bytes.
    const commits = commitsOf(wal);
    const unacknowledged = whole.rows.length > acknowledged.length ? commits.at(-1) : undefined;
    const from = unacknowledged?.from ?? commits.at(-1)?.to ?? wal.length;
    for (const end of [from, random.whole(from, wal.length)]) {
      const cut = open(writer.directory, wal.subarray(0, end));
      const scrambled = open(
        writer.directory,
        Buffer.concat([wal.subarray(0, end), random.bytes(Math.min(5_000, wal.length - end + 100))]),
      );
      for (const { rows, integrity } of [cut, scrambled]) {
        expect(integrity).toBe('ok');
        expect(rows.slice(0, acknowledged.length)).toEqual(acknowledged);
        torn++;
      }
    }
    process.kill(writer.pid, 'SIGCONT');
  }
  going = false;
  await work;
  expect(torn).toBe(100);
  // This proves that the check works: without its last transaction, the log misses a row.
  const wal = readFileSync(join(writer.directory, 'boxrun.db-wal'));
  const last = commitsOf(wal).at(-1);
  if (last !== undefined)
    expect(open(writer.directory, wal.subarray(0, last.from)).rows.length).toBeLessThan(writer.acknowledged.length);
}, 60_000);

it('the writer answers only after the log is synced to the disk, each time', async () => {
  const writer = await startWriter();
  const trace = join(writer.directory, 'trace');
  const strace = spawn(
    'strace',
    ['-f', '-y', '-e', 'trace=pwrite64,fdatasync,fsync,write,writev,sendmsg', '-o', trace, '-p', String(writer.pid)],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  await once(strace.stderr, 'data'); // "Process … attached"
  const count = 20;
  for (let round = 0; round < count; round++) await writer.insert();
  strace.kill('SIGINT');
  await once(strace, 'exit');
  const calls = readFileSync(trace, 'utf8')
    .split('\n')
    .flatMap((call) => {
      if (/pwrite64\(\d+<[^>]*-wal>/.test(call)) return ['log'];
      if (/(fdatasync|fsync)\(\d+<[^>]*-wal>/.test(call)) return ['sync'];
      return /(write|writev|sendmsg)\(\d+<(UNIX|socket)[^>]*>/.test(call) ? ['answer'] : [];
    });
  const answers = calls.flatMap((call, index) => (call === 'answer' ? [index] : []));
  expect(answers).toHaveLength(count);
  let before = -1;
  for (const answer of answers) {
    const since = calls.slice(before + 1, answer);
    expect(since, `before answer ${answer}`).toContain('log');
    expect(since.at(-1), `before answer ${answer}`).toBe('sync');
    before = answer;
  }
}, 60_000);
