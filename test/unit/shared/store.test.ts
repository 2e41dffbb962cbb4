// Tests the reader of a real database: rows by id or name, newest first, and events in pages with a limited number of
// events and bytes.
import Database from 'better-sqlite3';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Box, Exec, type BoxStatus } from '../../../src/shared/api.ts';
import { limits } from '../../../src/shared/limits.ts';
import { migrate, schemaVersion } from '../../../src/shared/store/migrations.ts';
import { watchCommits } from '../../../src/shared/store/commit-watch.ts';
import { openReader, type Reader } from '../../../src/shared/store/reader.ts';
import { fromSql, publicBox, publicExec, toSql, type BoxRow } from '../../../src/shared/store/rows.ts';
import { prepareStatements, type Statements } from '../../../src/writer/statements.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';
import { addEvent, boxRow, execRow, finishExec, insertExec, logEvent } from '../writer/setup.ts';

interface Store {
  readonly db: Database.Database;
  readonly statements: Statements;
  readonly reader: Reader;
}

function openStore(): Store {
  const path = join(temporaryDirectory(), 'boxrun.db');
  const db = new Database(path);
  db.pragma('journal_mode = WAL');
  db.pragma('foreign_keys = ON');
  migrate(db);
  const reader = openReader(path);
  onTestFinished(() => {
    reader.close();
    db.close();
  });
  return { db, statements: prepareStatements(db), reader };
}

const execId = execRow().id;
/** The fields that the clients of every edition know. There may be more. */
const publicBoxFields = [
  'boxlite_id',
  'cpu',
  'created_at',
  'disk_size_gb',
  'env',
  'error_code',
  'error_message',
  'id',
  'image',
  'memory_mb',
  'name',
  'network',
  'started_at',
  'status',
  'stopped_at',
  'volumes',
  'workdir',
];
const list = (reader: Reader, status: BoxStatus | null = null) => reader.boxes({ status, labels: [] }, wholeList).rows;
const wholeList = { limit: 1_000, after: null };
const createdAt = (ms: number) => new Date(1_767_225_600_000 + ms).toISOString();

describe('the boxes in the database', () => {
  it('are found by id and by name, or are null', () => {
    const { statements, reader } = openStore();
    statements.insertBox(boxRow({ id: 'box_111111111111', name: 'web' }));
    statements.insertBox(boxRow({ id: 'box_222222222222' }));
    expect(reader.box('web')?.id).toBe('box_111111111111');
    expect(reader.box('box_222222222222')?.name).toBeNull();
    for (const key of ['we', 'WEB', '', '%', 'null']) expect(reader.box(key), key).toBeNull();
  });

  it('are listed newest first, even within the same millisecond, and by status', () => {
    const { statements, reader } = openStore();
    const order = [3, 1, 2, 2, 2];
    for (const [index, ms] of order.entries()) {
      const status = index === 1 ? 'stopped' : 'running';
      statements.insertBox(boxRow({ id: `box_${index}`, created_at: createdAt(ms), status }));
    }
    expect(list(reader).map(({ id }) => id)).toEqual(['box_0', 'box_4', 'box_3', 'box_2', 'box_1']);
    expect(list(reader, 'stopped').map(({ id }) => id)).toEqual(['box_1']);
    expect(list(reader, 'error')).toEqual([]);
  });

  it('have all public fields and no internal ones', () => {
    const { statements, reader } = openStore();
    statements.insertBox(boxRow());
    const [box] = list(reader);
    for (const field of publicBoxFields) expect(box, field).toHaveProperty(field);
    for (const field of ['state', 'generation', 'ephemeral', 'driver', 'image_source'])
      expect(box).not.toHaveProperty(field);
  });
});

describe('the commands in the database', () => {
  it('are found only under their own box, by its id or name', () => {
    const { statements, reader } = openStore();
    statements.insertBox(boxRow({ name: 'web' }));
    statements.insertBox(boxRow({ id: 'box_other', name: 'other' }));
    statements.changeExec(insertExec());
    expect(reader.exec(boxRow().id, execId)?.cmd).toEqual(['echo', 'ü']);
    expect(reader.exec('web', execId)?.id).toBe(execId);
    expect(reader.exec('other', execId)).toBeNull();
    expect(reader.exec('web', 'exec_none')).toBeNull();
  });

  it('are listed newest first, and the finished ones by their ids', () => {
    const { statements, reader } = openStore();
    statements.insertBox(boxRow());
    for (const [index, ms] of [1, 3, 2, 2].entries())
      statements.changeExec(insertExec({ id: `exec_${index}`, created_at: createdAt(ms) }));
    statements.changeExec(finishExec('exec_2'));
    expect(reader.execs(boxRow().id, wholeList).rows.map(({ id }) => id)).toEqual([
      'exec_1',
      'exec_3',
      'exec_2',
      'exec_0',
    ]);
    expect(reader.newestFinishedExecIds(boxRow().id, 10)).toEqual(['exec_2']);
    expect(reader.finishedAmong(boxRow().id, ['exec_2', execRow().id, 'exec_unknown'])).toEqual(['exec_2']);
    expect(reader.execs('box_none', wholeList).rows).toEqual([]);
  });
});

describe('the events in the database', () => {
  function fill({ db, statements }: Store, count: number, bytes: number): void {
    statements.insertBox(boxRow());
    statements.changeExec(insertExec());
    db.transaction(() => {
      for (let seq = 0; seq < count; seq++)
        statements.changeExec(addEvent(execId, { ...logEvent(seq), data: Buffer.alloc(bytes, seq % 256) }));
    })();
  }

  function readAll(reader: Reader): { seqs: number[]; pages: number[] } {
    const seqs: number[] = [];
    const pages: number[] = [];
    for (let more = true; more;) {
      const page = reader.events(execId, seqs.at(-1) ?? -1);
      seqs.push(...page.events.map(({ seq }) => seq));
      pages.push(page.events.length);
      more = page.more;
    }
    return { seqs, pages };
  }

  it('are read in pages with a limited number, without a gap or a double', () => {
    const store = openStore();
    fill(store, limits.replayPageEvents * 2 + 3, 1);
    const { seqs, pages } = readAll(store.reader);
    expect(seqs).toEqual(Array.from({ length: limits.replayPageEvents * 2 + 3 }, (_, seq) => seq));
    expect(pages).toEqual([limits.replayPageEvents, limits.replayPageEvents, 3]);
  });

  it('are read in pages with a limited number of bytes, and no page is empty while there are more', () => {
    const store = openStore();
    fill(store, 20, limits.replayPageBytes / 4);
    const { seqs, pages } = readAll(store.reader);
    expect(seqs).toHaveLength(20);
    for (const page of pages.slice(0, -1)) expect(page).toBe(4);
  });

  it('are read after the requested seq, and there are none after the last', () => {
    const store = openStore();
    fill(store, 5, 1);
    expect(store.reader.events(execId, 2).events.map(({ seq }) => seq)).toEqual([3, 4]);
    expect(store.reader.events(execId, 4)).toEqual({ events: [], more: false });
    expect(store.reader.events(execId, 999)).toEqual({ events: [], more: false });
    expect(store.reader.events('exec_none', -1)).toEqual({ events: [], more: false });
  });

  it('have exactly the bytes that were written', () => {
    const store = openStore();
    fill(store, 256, 3);
    for (const { seq, data } of store.reader.events(execId, -1).events)
      expect(Buffer.from(data)).toEqual(Buffer.alloc(3, seq));
  });

  it('are seen as soon as another process has committed them, and reading a page locks nothing', () => {
    const store = openStore();
    fill(store, 3, 1);
    expect(store.reader.events(execId, -1).events).toHaveLength(3);
    store.statements.changeExec(addEvent(execId, logEvent(3)));
    expect(store.reader.events(execId, -1).events).toHaveLength(4);
    expect(store.db.pragma('wal_checkpoint(TRUNCATE)')).toEqual([{ busy: 0, log: 0, checkpointed: 0 }]);
  });
});

describe('the reader of a database', () => {
  it('does not create a database that does not exist', () => {
    expect(() => openReader(join(temporaryDirectory(), 'none.db'))).toThrow();
  });
});

describe('the rows of the database', () => {
  it('are written to columns and read unchanged', () => {
    const row = boxRow({ labels: { a: '' }, volumes: [], env: {} });
    expect(fromSql<BoxRow>(toSql(row))).toEqual(row);
  });

  it('are shown to clients with the public fields only', () => {
    expect(Object.keys(publicBox(boxRow()))).toEqual(Object.keys(Box.properties));
    expect(publicExec(execRow())).not.toHaveProperty('detachable');
    expect(Object.keys(publicExec({ ...execRow(), detachable: true }))).toEqual(Object.keys(Exec.properties));
    expect(publicExec(execRow())).not.toHaveProperty('generation');
  });
});

describe('the migrations of the database', () => {
  it('update an empty file to the current version, and do nothing the second time', () => {
    const { db } = openStore();
    expect(db.pragma('user_version', { simple: true })).toBe(schemaVersion);
    const schema = db.prepare('SELECT sql FROM sqlite_schema ORDER BY name').all();
    migrate(db);
    expect(db.prepare('SELECT sql FROM sqlite_schema ORDER BY name').all()).toEqual(schema);
  });

  it('create the public tables with every public column', () => {
    const { db } = openStore();
    const columns = (table: string) => db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table);
    expect(columns('boxes')).toEqual(expect.arrayContaining(Object.keys(publicBox(boxRow()))));
    expect(columns('execs')).toEqual(expect.arrayContaining(Object.keys(publicExec(execRow()))));
    expect(columns('events')).toEqual(['id', 'exec_id', 'seq', 'type', 'stream', 'data', 'created_at']);
  });

  it('allow each pair of exec_id and seq only once', () => {
    const { db, statements } = openStore();
    statements.insertBox(boxRow());
    statements.changeExec(insertExec());
    statements.changeExec(addEvent(execId, logEvent(0)));
    const again = db.prepare(
      `INSERT INTO events (exec_id, seq, type, data, created_at) VALUES (?, 0, 'log', x'00', 'now')`,
    );
    expect(() => again.run(execId)).toThrow(/UNIQUE/);
  });
});

describe('watchCommits', () => {
  it('has no version before the database exists, and another version after each commit of another connection', () => {
    const path = join(temporaryDirectory(), 'boxrun.db');
    const commits = watchCommits(path);
    expect(commits.version()).toBeNull();
    const db = new Database(path);
    db.pragma('journal_mode = WAL');
    db.exec('CREATE TABLE t (x)');
    const before = commits.version();
    expect(commits.version()).toBe(before);
    db.exec('BEGIN; INSERT INTO t VALUES (1)');
    expect(commits.version()).toBe(before);
    db.exec('COMMIT');
    expect(commits.version()).not.toBe(before);
    commits.close();
    db.close();
  });
});
