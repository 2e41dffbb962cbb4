// Changes in a database file that nobody has open, and that is not BoxRun's own: used for the engine's database in a
// template home (worker/drivers/boxlite), since SQLite is opened only here and in the writer.
import Database from 'better-sqlite3';

/**
 * Empties `tables`, in one file without a journal.
 * @throws when the database is damaged, or has not all of the tables
 */
export function takeRowsOut(path: string, tables: readonly string[]): void {
  withDatabase(path, (db) => {
    if (db.pragma('integrity_check', { simple: true }) !== 'ok') throw new Error(`the database ${path} is damaged`);
    for (const table of tables) db.prepare(`DELETE FROM "${table}"`).run();
    db.pragma('journal_mode = DELETE'); // Takes in the journal, if there is one.
    db.exec('VACUUM'); // Nothing of the rows is left in the file.
  });
}

/** Puts `to` in the place of `from` wherever that stands in a text of any table. */
export function replaceText(path: string, from: string, to: string): void {
  withDatabase(path, (db) => {
    const columns = db
      .prepare(
        `SELECT tables.name AS "table", columns.name AS "column" FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
       WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%'`,
      )
      .all() as { table: string; column: string }[];
    db.transaction(() => {
      for (const { table, column } of columns) {
        db.prepare(
          `UPDATE "${table}" SET "${column}" = replace("${column}", $from, $to) WHERE typeof("${column}") = 'text' AND instr("${column}", $from) > 0`,
        ).run({ from, to });
      }
    })();
  });
}

function withDatabase(path: string, use: (db: Database.Database) => void): void {
  const db = new Database(path, { fileMustExist: true });
  try {
    use(db);
  } finally {
    db.close();
  }
}
