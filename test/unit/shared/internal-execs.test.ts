// Tests what the lists and the state events say of internal commands, in a database of this version and in one that an
// earlier writer has not migrated yet.
import Database from 'better-sqlite3';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { migrate, schemaVersion } from '../../../src/shared/store/migrations.ts';
import { openReader } from '../../../src/shared/store/reader.ts';
import { prepareStatements } from '../../../src/writer/statements.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';
import { boxRow, execRow, insertExec } from '../writer/setup.ts';

function openStore(version = schemaVersion) {
  const path = join(temporaryDirectory(), 'boxrun.db');
  const db = new Database(path);
  migrate(db, version);
  const reader = openReader(path);
  onTestFinished(() => {
    reader.close();
    db.close();
  });
  return { db, reader, shown: () => reader.execs(boxRow().id, { limit: 10, after: null }).rows.map(({ id }) => id) };
}

it('an internal command is in no list and makes no state event, and is found by its id', () => {
  const { db, reader, shown } = openStore();
  const statements = prepareStatements(db);
  statements.insertBox(boxRow());
  expect(statements.changeExec(insertExec({ id: 'exec_internal111', internal: true }))).toMatchObject({ state: null });
  expect(statements.changeExec(insertExec({ id: 'exec_internal222', internal: true }))).toMatchObject({ state: null });
  expect(statements.changeExec(insertExec())).toMatchObject({ state: { kind: 'exec.started' } });
  const end = {
    op: 'finish',
    status: 'succeeded',
    exitCode: 0,
    errorMessage: null,
    at: '2026-01-01T00:00:01Z',
  } as const;
  expect(statements.changeExec({ ...end, execId: 'exec_internal111' })).toMatchObject({ state: null });
  const lost = statements.closeLease(boxRow().id, 1, 'worker exited', '2026-01-01T00:00:02Z');
  expect(lost.map(({ exec, state }) => [exec.id, state?.kind])).toEqual([
    ['exec_internal222', undefined],
    [execRow().id, 'exec.finished'],
  ]);
  expect(shown()).toEqual([execRow().id]);
  expect(reader.exec(boxRow().id, 'exec_internal111')).toMatchObject({ status: 'succeeded' });
  expect(reader.exec(boxRow().id, 'exec_internal111')).not.toHaveProperty('internal');
});

it('a reader lists all commands of a database without the mark, and hides internal ones after the migration', () => {
  const { db, shown } = openStore(schemaVersion - 1);
  const insert = db.prepare(
    `INSERT INTO execs (id, box_id, status, cmd, created_at) VALUES (?, 'box_aaaaaaaaaaaa', 'running', '[]', 'now')`,
  );
  db.pragma('foreign_keys = OFF');
  insert.run('exec_old111111111');
  expect(shown()).toEqual(['exec_old111111111']);
  migrate(db);
  db.prepare(`UPDATE execs SET internal = 1`).run();
  insert.run('exec_new111111111');
  expect(shown()).toEqual(['exec_new111111111']);
});
