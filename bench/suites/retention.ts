// Measures what a retention time costs a server with millions of old and young events: its start, and the waits of
// other commits while old rows are removed. A server without a retention time is the reference, with the same rows.
import { closeSync, copyFileSync, fsyncSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { newId } from '../../src/shared/ids.ts';
import { noWriterNotices, writerContract } from '../../src/shared/contracts/writer.ts';
import { connectContract } from '../../src/shared/ipc/client.ts';
import { statePaths } from '../../src/shared/settings/state-dir.ts';
import { toSql } from '../../src/shared/store/rows.ts';
import { sleep } from '../../src/shared/waiting/clock.ts';
import { percentilesOf, type Context, type Measure, type Suite } from '../support/measure.ts';
import { eventColumns, execRow, insertInto, openForWriting, seedBoxes } from '../support/seed.ts';
import { withServer, type BenchServer, type ServerOptions } from '../support/server.ts';

/** A cleanup may delay a commit by at most so many milliseconds. */
const goalMs = 50;
/** With a retention time, the start may take longer by at most this factor. */
const goalStartFactor = 1.3;

/** What was measured with one server. */
interface Found {
  readonly server: BenchServer;
  /** Commits a small change. Returns the milliseconds that it took. */
  readonly commit: () => Promise<number>;
  readonly waits: number[];
}

export const retention: Suite = {
  name: 'retention',
  async run(context) {
    const directory = mkdtempSync(join(tmpdir(), 'boxrun-bench-'));
    const template = join(directory, 'boxrun.db');
    try {
      const box = seed(context, template);
      const started = (hours: number, use: (found: Found) => Promise<Measure[]>) =>
        withServer(context, serverOptions(template, hours), async (server) => use(await prepared(server, box)));
      return await started(24, (ours) => started(0, (reference) => compareBoth(context, ours, reference)));
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
};

async function compareBoth(context: Context, ours: Found, reference: Found): Promise<Measure[]> {
  const before = countEvents(ours.server);
  const endsAt = performance.now() + (context.isShort ? 5_000 : 30_000);
  while (performance.now() < endsAt) {
    for (const side of [ours, reference]) side.waits.push(await side.commit());
    await sleep(1);
  }
  const removed = before - countEvents(ours.server);
  if (removed === 0) throw new Error('nothing was removed, so this run says nothing');
  context.say(`${removed} old events were removed during ${ours.waits.length} commits`);
  return [startOf(ours, reference), longestWait(ours, reference)];
}

/** Fills a database: half of the events are old, and half of both belong to commands with much output. */
function seed(context: Context, dbPath: string): string {
  const half = context.isShort ? 400_000 : 2_000_000;
  const [box = ''] = seedBoxes(dbPath, 1);
  const db = openForWriting(dbPath);
  const insertExec = db.prepare(insertInto('execs', Object.keys(execRow('', ''))));
  const insertEvent = db.prepare(insertInto('events', eventColumns));
  const add = db.transaction((at: string, execs: number, events: number) => {
    for (let count = 0; count < execs; count++) {
      const id = newId('exec');
      insertExec.run(toSql({ ...execRow(id, box), created_at: at, finished_at: at }));
      for (let seq = 0; seq < events; seq++) {
        const data = Buffer.from(`line ${seq} of the output of a test run\n`);
        insertEvent.run({ exec_id: id, seq, type: 'log', stream: 'stdout', data, created_at: at });
      }
    }
  });
  context.say(`filling a database with ${2 * half} events`);
  for (const at of ['2026-01-01T00:00:00.000Z', new Date().toISOString()]) {
    add(at, half / 2 / 100_000, 100_000);
    add(at, half / 2 / 10, 10);
  }
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
  return box;
}

function serverOptions(template: string, retentionHours: number): ServerOptions {
  const seed = (dbPath: string) => {
    copyFileSync(template, dbPath);
    syncFile(dbPath);
  };
  return { args: ['--workers', '0', '--retention-hours', String(retentionHours)], seed };
}

/** Otherwise the kernel writes the copy during the measurement. */
function syncFile(path: string): void {
  const file = openSync(path, 'r');
  fsyncSync(file);
  closeSync(file);
}

function countEvents({ config }: BenchServer): number {
  const db = new Database(config.dbPath, { readonly: true });
  const count = db.prepare('SELECT count(*) FROM events').pluck().get() as number;
  db.close();
  return count;
}

async function prepared(server: BenchServer, boxId: string): Promise<Found> {
  const writer = await connectContract({
    path: statePaths(server.stateDir).writerSocket,
    contract: writerContract,
    hello: { role: 'supervisor' },
    notices: noWriterNotices,
  });
  const waits: number[] = [];
  const commit = async () => {
    const from = performance.now();
    await writer.request('updateBox', { boxId, change: { labels: { n: String(waits.length) } } });
    return performance.now() - from;
  };
  return { server, commit, waits };
}

function startOf(ours: Found, reference: Found): Measure {
  const [mine, other] = [ours.server.startMs, reference.server.startMs];
  const ratio = other / mine;
  const goal = { text: `≤ ${goalStartFactor} ×`, met: 1 / ratio <= goalStartFactor };
  return { name: 'retention/start', unit: 'ms', ours: mine, reference: other, ratio, percentiles: null, goal };
}

/** The disk may be slow at any time, so the reference shows what has nothing to do with the cleanup. */
function longestWait(ours: Found, reference: Found): Measure {
  const [mine, other] = [Math.max(...ours.waits), Math.max(...reference.waits)];
  return {
    name: 'retention/longest-commit',
    unit: 'ms',
    ours: mine,
    reference: other,
    ratio: other / mine,
    percentiles: { ours: percentilesOf(ours.waits), reference: percentilesOf(reference.waits) },
    goal: { text: `≤ ${goalMs} more`, met: mine - other <= goalMs },
  };
}
