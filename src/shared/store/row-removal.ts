// A database file without what is in some of its tables. For copies that nobody else has open: used for the engine's database in a
// template home (worker/drivers/boxlite), since SQLite is opened only here and in the writer.
import Database from 'better-sqlite3';

/**
 * Empties `tables`, in one file without a journal.
 * @throws when the database is damaged, or has not all of the tables
 */
export function takeRowsOut(path: string, tables: readonly string[]): void {
  const db = new Database(path, { fileMustExist: true });
  try {
    if (db.pragma('integrity_check', { simple: true }) !== 'ok') throw new Error(`the database ${path} is damaged`);
    for (const table of tables) db.prepare(`DELETE FROM "${table}"`).run();
    db.pragma('journal_mode = DELETE'); // Takes in the journal, if there is one.
    db.exec('VACUUM'); // Nothing of the rows is left in the file.
  } finally {
    db.close();
  }
}
