// Whether anything has been committed to the database since a moment: one number that changes with every commit of
// another process. Costs microseconds, reads no row, and waits for nothing. For whoever keeps what was read
// (gateway/reads/answer-cache.ts).
import Database from 'better-sqlite3';

export interface CommitWatch {
  /** Equal numbers: nothing was committed between. Null when the database cannot say right now. */
  version(): number | null;
  close(): void;
}

/** Opens the database at `path` when it is first asked; until that exists, it cannot say. */
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
