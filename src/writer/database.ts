// Opens the database for writing: lock, durability, schema, and the identity that marks everything this state directory makes.
// Called once by main.ts. While it is open no other process can open it for writing.
import { closeSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { BoxRunError } from '../shared/errors.ts';
import { faultPoint } from '../shared/fault.ts';
import { newId } from '../shared/ids.ts';
import { tryLock } from '../shared/lock.ts';
import { migrate } from '../shared/store/migrations.ts';

export interface WriterDatabase {
  readonly db: Database.Database;
  readonly instanceId: string;
  /** Lets another writer have it. */
  close(): void;
}

/**
 * @throws RUNTIME_ERROR when another writer has the database, or its version is unknown
 */
export async function openDatabase(path: string): Promise<WriterDatabase> {
  const lock = await tryLock(`${path}.lock`);
  if (lock === null) {
    throw new BoxRunError('RUNTIME_ERROR', `another process writes ${path}`, {
      hint: 'another server uses this database; stop it, or set BOXRUN_DB',
    });
  }
  faultPoint('writer.boot.locked');
  let db: Database.Database | undefined;
  const close = () => {
    db?.close();
    lock.release();
  };
  try {
    closeSync(openSync(path, 'a', 0o600)); // What boxes print is their owner's alone; SQLite would let others read it.
    db = new Database(path);
    db.pragma('busy_timeout = 5000');
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    db.pragma('foreign_keys = ON');
    migrate(db);
    db.prepare(`INSERT INTO meta (key, value) VALUES ('instance_id', ?) ON CONFLICT (key) DO NOTHING`).run(newId('inst'));
    const instanceId = db.prepare(`SELECT value FROM meta WHERE key = 'instance_id'`).pluck().get() as string;
    return { db, instanceId, close };
  } catch (error) {
    close();
    throw error;
  }
}
