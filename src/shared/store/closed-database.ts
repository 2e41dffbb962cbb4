// Changes a database file that is not BoxRun's own, such as a copy of the engine's database, for a template home or
// from one. The caller must make sure that no process has the file open.
import Database from 'better-sqlite3';

/**
 * Deletes all rows of `tables`, and leaves one file without a journal.
 * @throws Error if the database is damaged, or if a table is missing
 */
export function deleteRows(path: string, tables: readonly string[]): void {
  withDatabase(path, (db) => {
    if (db.pragma('integrity_check', { simple: true }) !== 'ok') throw new Error(`the database ${path} is damaged`);
    for (const table of tables) db.prepare(`DELETE FROM "${table}"`).run();
    db.pragma('journal_mode = DELETE'); // Writes a journal, if there is one, into the file.
    db.exec('VACUUM'); // Removes the bytes of the deleted rows from the file.
  });
}

/** Replaces `from` by `to` in every text of every table. */
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
