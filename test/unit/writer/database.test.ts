// Tests how the writer opens its database: for one writer at a time, with full durability and foreign keys, and only in
// a version that it understands.
import Database from 'better-sqlite3';
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { migrate, schemaVersion } from '../../../src/shared/store/migrations.ts';
import { openDatabase } from '../../../src/writer/database.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';
import { addEvent, boxRow, finishExec, insertExec, logEvent, openWriter } from './setup.ts';

function foreignDatabase(sql: string): string {
  const path = join(temporaryDirectory(), 'boxrun.db');
  const db = new Database(path);
  db.exec(sql);
  db.close();
  return path;
}

describe('the database', () => {
  it('is opened with WAL, full durability and foreign keys', async () => {
    const { db } = await openWriter();
    expect(db.pragma('journal_mode', { simple: true })).toBe('wal');
    expect(db.pragma('synchronous', { simple: true })).toBe(2);
    expect(db.pragma('foreign_keys', { simple: true })).toBe(1);
    expect(db.pragma('user_version', { simple: true })).toBe(schemaVersion);
  });

  it('can be read only by its owner, and so can its journal', async () => {
    const { path } = await openWriter();
    for (const file of [path, `${path}-wal`, `${path}-shm`]) expect(statSync(file).mode & 0o077, file).toBe(0);
  });

  it('is refused to a second writer with a hint until the first has closed it', async () => {
    const first = await openWriter();
    await expect(openWriter(first.path)).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      hint: expect.stringContaining('BOXRUN_DB') as unknown,
    });
    first.close();
    await openWriter(first.path);
  });

  it('keeps its rows, bytes and identity when it is opened again', async () => {
    const first = await openWriter();
    const bytes = Buffer.from([0, 0xff, 0xfe, 0x80]);
    await first.batch.submit(() => {
      first.statements.insertBox(boxRow());
      first.statements.changeExec(insertExec());
      first.statements.changeExec(addEvent('exec_aaaaaaaaaaa', { ...logEvent(0), data: bytes }));
      first.statements.changeExec(finishExec('exec_aaaaaaaaaaa'));
    });
    first.close();
    const second = await openWriter(first.path);
    expect(second.instanceId).toBe(first.instanceId);
    expect(second.value('SELECT data FROM events')).toEqual(bytes);
    expect(second.value('SELECT status FROM execs')).toBe('succeeded');
  });

  it('has another identity than the database of another instance', async () => {
    expect((await openWriter()).instanceId).not.toBe((await openWriter()).instanceId);
  });

  it('is refused and not changed if its version is newer', async () => {
    const path = foreignDatabase(`CREATE TABLE boxes (id TEXT); PRAGMA user_version = ${schemaVersion + 1}`);
    await expect(openWriter(path)).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      message: expect.stringContaining(`version ${schemaVersion + 1}`) as unknown,
    });
    const db = new Database(path);
    expect(db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get()).toBe(1);
    expect(db.pragma('user_version', { simple: true })).toBe(schemaVersion + 1);
    db.close();
  });

  it('can be tried again after an open that failed', async () => {
    const path = foreignDatabase('CREATE TABLE boxes (id TEXT)');
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(openWriter(path)).rejects.toMatchObject({
        message: expect.stringContaining('not a database of BoxRun') as unknown,
      });
    }
  });

  it('has no event without its command, and no command without its box', async () => {
    const { statements, batch } = await openWriter();
    await expect(
      batch.submit(() => {
        statements.changeExec(insertExec());
      }),
    ).rejects.toThrow(/FOREIGN KEY/);
    await expect(
      batch.submit(() => {
        statements.changeExec(addEvent('exec_none', logEvent(0)));
      }),
    ).rejects.toThrow(/FOREIGN KEY/);
  });
});

describe('a database of an earlier version', () => {
  it('is copied before it is changed, and the copy opens with all its content', async () => {
    const path = join(temporaryDirectory(), 'boxrun.db');
    const made = new Database(path);
    migrate(made, schemaVersion - 1);
    made.exec(`INSERT INTO meta (key, value) VALUES ('instance_id', 'inst_of_before')`);
    made.close();
    let steps = 0;
    const { db, close, instanceId } = await openDatabase(path, () => {
      steps++;
    });
    onTestFinished(close);
    expect(db.pragma('user_version', { simple: true })).toBe(schemaVersion);
    expect(instanceId).toBe('inst_of_before');
    expect(steps).toBeGreaterThan(0);
    const backup = `${path}.version-${schemaVersion - 1}`;
    expect(statSync(backup).mode & 0o777).toBe(0o600);
    const copy = new Database(backup, { readonly: true });
    onTestFinished(() => {
      copy.close();
    });
    expect(copy.pragma('user_version', { simple: true })).toBe(schemaVersion - 1);
    expect(copy.prepare('SELECT value FROM meta').pluck().get()).toBe('inst_of_before');
  });

  it('is not changed if it cannot be copied', async () => {
    const path = join(temporaryDirectory(), 'boxrun.db');
    const made = new Database(path);
    migrate(made, schemaVersion - 1);
    made.close();
    mkdirSync(`${path}.version-${schemaVersion - 1}`);
    writeFileSync(join(`${path}.version-${schemaVersion - 1}`, 'in the way'), '');
    await expect(openDatabase(path)).rejects.toThrow();
    const left = new Database(path, { readonly: true });
    onTestFinished(() => {
      left.close();
    });
    expect(left.pragma('user_version', { simple: true })).toBe(schemaVersion - 1);
    expect(readdirSync(dirname(path)).filter((name) => name.endsWith('.unfinished'))).toEqual([]);
  });

  it('is not copied again once it has this version', async () => {
    const path = join(temporaryDirectory(), 'boxrun.db');
    for (let times = 0; times < 2; times++) (await openDatabase(path)).close();
    expect(readdirSync(dirname(path)).filter((name) => name.includes('version'))).toEqual([]);
  });
});
