// Opens the database for writing: lock, durability, schema, and the identity that marks everything this state directory
// makes. Called once by main.ts. While it is open no other process can open it for writing.
import { closeSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { BoxRunError, errorText } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';
import { newId } from '../shared/ids.ts';
import { tryLock } from '../shared/process/lock.ts';
import { backUpBeforeMigration, migrate } from '../shared/store/migrations.ts';

export interface WriterDatabase {
  readonly db: Database.Database;
  readonly instanceId: string;
  /** Lets another writer have it. */
  close(): void;
}

/** Output comes in pieces of up to 32 KiB, and each page of them costs system calls: docs/performance.md. */
const pageBytes = 16 * 1024;
/** The log of changes that is brought into the database at once: bytes. */
const checkpointBytes = 16 * 1024 * 1024;

/** What SQLite and the kernel say, with what to do about it. */
function explained(error: unknown, path: string): unknown {
  const code = String((error as { code?: unknown }).code);
  const fail = (hint: string) =>
    new BoxRunError('RUNTIME_ERROR', `the database ${path} cannot be opened: ${errorText(error)}`, {
      hint,
      cause: error,
    });
  if (/^SQLITE_(NOTADB|CORRUPT)/.test(code))
    return fail('the file is damaged, or no database: put a backup in its place, or move it away to begin anew');
  if (/^(SQLITE_(BUSY|LOCKED))/.test(code)) return fail('another program holds it: close that one');
  if (/^(EROFS|EACCES|EPERM|SQLITE_(READONLY|CANTOPEN))/.test(code))
    return fail('its directory must be writable for the user who runs the server');
  if (/^(ENOSPC|EDQUOT|SQLITE_FULL)/.test(code)) return fail('free disk space');
  return error;
}

/**
 * @param onProgress called while a backup is made, which takes as long as the database is large
 * @throws RUNTIME_ERROR when another writer has the database, or its version is unknown
 */
export async function openDatabase(path: string, onProgress: () => void = () => undefined): Promise<WriterDatabase> {
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
    db.pragma(`page_size = ${pageBytes}`); // A database that is there keeps its own.
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    // What a savepoint changes would go to a file from 64 KiB on, and at no descriptor left to nowhere.
    db.pragma('temp_store = MEMORY');
    db.pragma(`wal_autocheckpoint = ${checkpointBytes / pageBytes}`);
    db.pragma('foreign_keys = ON');
    await backUpBeforeMigration(db, onProgress);
    migrate(db);
    db.prepare(`INSERT INTO meta (key, value) VALUES ('instance_id', ?) ON CONFLICT (key) DO NOTHING`).run(
      newId('inst'),
    );
    const instanceId = db.prepare(`SELECT value FROM meta WHERE key = 'instance_id'`).pluck().get() as string;
    return { db, instanceId, close };
  } catch (error) {
    close();
    throw explained(error, path);
  }
}
