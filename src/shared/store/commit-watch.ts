// Tells whether another process has committed to the database: one number that changes with every commit (PRAGMA
// data_version). Reading it takes microseconds, reads no row and never waits. The gateway keeps answers until this
// number changes (answer-cache.ts).
import Database from 'better-sqlite3';

export interface CommitWatch {
  /** If two calls return the same number, there was no commit between them. Null if the database cannot be read now. */
  version(): number | null;
  close(): void;
}

/** Opens the database at `path` at the first call of `version`. Until the file exists, `version` returns null. */
export function watchCommits(path: string): CommitWatch {
  let db: Database.Database | null = null;
  let version: Database.Statement | null = null;
  return {
    version() {
      try {
        db ??= new Database(path, { readonly: true, fileMustExist: true, timeout: 0 });
        version ??= db.prepare('PRAGMA data_version').pluck();
        return version.get() as number;
      } catch {
        return null;
      }
    },
    close() {
      db?.close();
    },
  };
}
