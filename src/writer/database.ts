// Opens the database for writing: takes its lock, sets durability, brings the schema up to date, and reads its instance
// id. While the database is open, no other BoxRun process can open it for writing.
import { closeSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { BoxRunError, errorText } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';
import { newId } from '../shared/ids.ts';
import { tryLock } from '../shared/process/lock.ts';
import { backUpBeforeMigration, migrate } from '../shared/store/migrations.ts';

export interface WriterDatabase {
  readonly db: Database.Database;
  /** Marks everything that this server makes on the host. It is stored in the database. */
  readonly instanceId: string;
  /** Moves what was committed from SQLite's log into the database file, as far as no reader needs the log. */
  checkpoint(): void;
  /** Closes the database, and releases its lock for another writer. */
  close(): void;
}

/** One piece of output has up to 32 KiB, and each page costs system calls. So pages are large: docs/performance.md. */
const pageBytes = 16 * 1024;
/** The size of the write-ahead log, in bytes, at which SQLite moves it into the database file. */
const checkpointBytes = 16 * 1024 * 1024;

/** Adds a hint to the error of SQLite or the kernel: what the user can do. */
function explained(error: unknown, path: string): unknown {
  const code = String((error as { code?: unknown }).code);
  const fail = (hint: string) =>
    new BoxRunError('RUNTIME_ERROR', `the database ${path} cannot be opened: ${errorText(error)}`, {
      hint,
      cause: error,
    });
  if (/^SQLITE_(NOTADB|CORRUPT)/.test(code))
    return fail('the file is damaged, or is not a database: restore a backup, or move the file away to start empty');
  if (/^(SQLITE_(BUSY|LOCKED))/.test(code)) return fail('another program holds it: close that program');
  if (/^(EROFS|EACCES|EPERM|SQLITE_(READONLY|CANTOPEN))/.test(code))
    return fail('its directory must be writable for the user who runs the server');
  if (/^(ENOSPC|EDQUOT|SQLITE_FULL)/.test(code)) return fail('free disk space');
  return error;
}

/**
 * @param onProgress called again and again during a backup, which takes long if the database is large
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
    // The output of boxes is private, but SQLite would create a file that other users can read.
    closeSync(openSync(path, 'a', 0o600));
    db = new Database(path);
    db.pragma('busy_timeout = 5000');
    db.pragma(`page_size = ${pageBytes}`); // Only for a new database: an existing one keeps its page size.
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    // Otherwise SQLite writes the journal of a savepoint to a file from 64 KiB on. That fails when the process has no
    // file descriptor left.
    db.pragma('temp_store = MEMORY');
    db.pragma(`wal_autocheckpoint = ${checkpointBytes / pageBytes}`);
    db.pragma('foreign_keys = ON');
    await backUpBeforeMigration(db, onProgress);
    migrate(db);
    db.prepare(`INSERT INTO meta (key, value) VALUES ('instance_id', ?) ON CONFLICT (key) DO NOTHING`).run(
      newId('inst'),
    );
    const instanceId = db.prepare(`SELECT value FROM meta WHERE key = 'instance_id'`).pluck().get() as string;
    const opened = db;
    const checkpoint = () => {
      opened.pragma('wal_checkpoint(PASSIVE)');
    };
    return { db, instanceId, checkpoint, close };
  } catch (error) {
    close();
    throw explained(error, path);
  }
}
