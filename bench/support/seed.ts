// Writes rows directly into the database of a server that does not run yet: stopped boxes, and finished commands with
// their output.
import Database from 'better-sqlite3';
import { newId } from '../../src/shared/ids.ts';
import { migrate } from '../../src/shared/store/migrations.ts';
import { type BoxRow, type ExecRow, toSql } from '../../src/shared/store/rows.ts';

const at = '2026-01-01T00:00:00.000Z';

/** Opens the database with the settings of the writer, and migrates it. */
export function openForWriting(dbPath: string): Database.Database {
  const db = new Database(dbPath);
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma('foreign_keys = ON');
  migrate(db);
  return db;
}

export const insertInto = (table: string, columns: readonly string[]) =>
  `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map((name) => `$${name}`).join(', ')})`;

export const eventColumns = ['exec_id', 'seq', 'type', 'stream', 'data', 'created_at'];

export function boxRow(id: string): BoxRow {
  return {
    id,
    name: null,
    status: 'stopped',
    state: 'stopped',
    image: 'base',
    cpu: 1,
    memory_mb: 128,
    disk_size_gb: 1,
    network: false,
    workdir: '/root',
    env: null,
    volumes: null,
    boxlite_id: id,
    error_code: null,
    error_message: null,
    created_at: at,
    started_at: at,
    stopped_at: at,
    generation: 2,
    ephemeral: false,
    driver: 'container',
    ulimits: null,
    id_block: null,
    labels: { suite: 'bench' },
    image_source: { kind: 'registry', reference: 'bench.invalid/none:1' },
  };
}

export function execRow(id: string, boxId: string): ExecRow {
  return {
    id,
    box_id: boxId,
    status: 'succeeded',
    cmd: ['make', 'test'],
    env: null,
    workdir: null,
    timeout_ms: null,
    exit_code: 0,
    error_message: null,
    created_at: at,
    finished_at: at,
    generation: 1,
  };
}

/** Adds stopped boxes. Returns their ids. */
export function seedBoxes(dbPath: string, count: number): string[] {
  const db = openForWriting(dbPath);
  const insert = db.prepare(insertInto('boxes', Object.keys(boxRow(''))));
  const ids = Array.from({ length: count }, () => newId('box'));
  db.transaction(() => {
    for (const id of ids) insert.run(toSql(boxRow(id)));
  })();
  db.close();
  return ids;
}

/** Adds a finished command with `events` events, of which the last is the exit. Returns its id. */
export function seedExec(dbPath: string, boxId: string, events: number): string {
  const db = openForWriting(dbPath);
  const id = newId('exec');
  const insert = db.prepare(insertInto('events', eventColumns));
  db.transaction(() => {
    db.prepare(insertInto('execs', Object.keys(execRow('', '')))).run(toSql(execRow(id, boxId)));
    for (let seq = 0; seq < events - 1; seq++) {
      insert.run({
        exec_id: id,
        seq,
        type: 'log',
        stream: 'stdout',
        data: Buffer.from(`line ${seq} of the output of a test run\n`),
        created_at: at,
      });
    }
    const data = Buffer.from(JSON.stringify({ exit_code: 0 }));
    insert.run({ exec_id: id, seq: events - 1, type: 'exit', stream: null, data, created_at: at });
  })();
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
  return id;
}
