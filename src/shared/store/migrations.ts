// The schema of the database as numbered steps. `PRAGMA user_version` says how many steps a database has taken. The
// tables boxes, execs and events exist in every edition of BoxRun (an edition is another implementation, whose database
// this one converts); the rest belongs to this edition. Only the writer may migrate a database.
import { closeSync, openSync, renameSync, rmSync } from 'node:fs';
import type { Database } from 'better-sqlite3';
import { BoxRunError } from '../errors.ts';
import { faultPoint } from '../faults/fault.ts';
import { isOtherEdition, renameOldTables, convertRows } from './other-edition.ts';

const migrations: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE boxes (
    id TEXT PRIMARY KEY,
    name TEXT,
    status TEXT NOT NULL,
    image TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    memory_mb INTEGER NOT NULL,
    disk_size_gb INTEGER NOT NULL,
    network INTEGER NOT NULL,
    workdir TEXT NOT NULL,
    env TEXT,
    volumes TEXT,
    boxlite_id TEXT,
    error_code TEXT,
    error_message TEXT,
    created_at TEXT NOT NULL,
    started_at TEXT,
    stopped_at TEXT,
    state TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0,
    ephemeral INTEGER NOT NULL DEFAULT 0,
    driver TEXT NOT NULL,
    image_source TEXT,
    labels TEXT
  ) STRICT;
  CREATE UNIQUE INDEX boxes_name ON boxes (name) WHERE name IS NOT NULL;
  CREATE INDEX boxes_created ON boxes (created_at);
  CREATE TABLE execs (
    id TEXT PRIMARY KEY,
    box_id TEXT NOT NULL REFERENCES boxes (id),
    status TEXT NOT NULL,
    cmd TEXT NOT NULL,
    env TEXT,
    workdir TEXT,
    timeout_ms INTEGER,
    exit_code INTEGER,
    error_message TEXT,
    created_at TEXT NOT NULL,
    finished_at TEXT,
    generation INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX execs_box ON execs (box_id, created_at);
  CREATE INDEX execs_running ON execs (box_id) WHERE status = 'running';
  CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    exec_id TEXT NOT NULL REFERENCES execs (id),
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    stream TEXT,
    data BLOB NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (exec_id, seq)
  ) STRICT;
  CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    row_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (scope, key)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  ALTER TABLE idempotency ADD COLUMN answer TEXT;
  CREATE INDEX idempotency_created ON idempotency (created_at);
  CREATE INDEX idempotency_row ON idempotency (row_id);
  `,
  `ALTER TABLE boxes ADD COLUMN ulimits TEXT`,
  `ALTER TABLE boxes ADD COLUMN id_block INTEGER`,
  `ALTER TABLE boxes ADD COLUMN stop_grace_s REAL`,
  `ALTER TABLE boxes ADD COLUMN cpu_limit REAL`,
  `ALTER TABLE execs ADD COLUMN internal INTEGER`,
  `ALTER TABLE execs ADD COLUMN usage TEXT`,
  `ALTER TABLE execs ADD COLUMN detachable INTEGER;
   ALTER TABLE execs ADD COLUMN trimmed_bytes INTEGER`,
];

export const schemaVersion = migrations.length;
/** Pages of the database that one step of a backup copies. With the writer's pages of 16 KiB, this is 16 MiB. */
const pagesPerStep = 1024;

/**
 * Copies the database to `NAME.version-N` if it has an older version N of this edition's schema. An earlier copy of the
 * same version is replaced. Other processes may read the database meanwhile.
 * @param onProgress called after each step of the copy
 */
export async function backUpBeforeMigration(db: Database, onProgress: () => void): Promise<void> {
  const found = db.pragma('user_version', { simple: true }) as number;
  if (found === 0 || found >= schemaVersion) return;
  const path = `${db.name}.version-${found}`;
  const unfinished = `${path}.unfinished`;
  try {
    rmSync(unfinished, { force: true });
    closeSync(openSync(unfinished, 'wx', 0o600));
    await db.backup(unfinished, {
      progress: () => {
        onProgress();
        return pagesPerStep;
      },
    });
    renameSync(unfinished, path);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
  faultPoint('writer.migration.version-backed-up');
}

/**
 * Brings the schema up to date, each step in its own transaction. The rows of a database of another BoxRun edition are
 * converted, after a backup to `NAME.other-edition`.
 * @param to the version to stop at. Ignored for a database of another edition, which gets the newest version
 * @throws RUNTIME_ERROR if the database has a newer version, or if another program made it
 */
export function migrate(db: Database, to = schemaVersion): void {
  const found = db.pragma('user_version', { simple: true }) as number;
  if (found > schemaVersion) {
    throw new BoxRunError('RUNTIME_ERROR', `the database has version ${found}, this BoxRun knows ${schemaVersion}`, {
      hint: 'install the newer BoxRun again, or use another state directory',
    });
  }
  if (found === 0 && db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get() !== 0) {
    convertOtherEdition(db);
    return;
  }
  migrations.slice(found, to).forEach((sql, index) => {
    db.transaction(() => {
      db.exec(sql);
      db.pragma(`user_version = ${found + index + 1}`);
    }).immediate();
  });
}

/** Converts the database in one transaction, after a backup next to it. */
function convertOtherEdition(db: Database): void {
  if (!isOtherEdition(db)) {
    throw new BoxRunError('RUNTIME_ERROR', `${db.name} is not a database of BoxRun`, {
      hint: 'use another state directory (BOXRUN_STATE_DIR) or database file (BOXRUN_DB)',
    });
  }
  backUp(db, `${db.name}.other-edition`);
  faultPoint('writer.migration.backed-up');
  db.transaction(() => {
    renameOldTables(db);
    for (const sql of migrations) db.exec(sql);
    convertRows(db);
    db.pragma(`user_version = ${schemaVersion}`);
    faultPoint('writer.migration.uncommitted');
  }).immediate();
  faultPoint('writer.migration.committed');
}

/** Copies the database. The copy gets its name when it is complete. */
function backUp(db: Database, path: string): void {
  const unfinished = `${path}.unfinished`;
  rmSync(unfinished, { force: true });
  closeSync(openSync(unfinished, 'wx', 0o600));
  db.prepare('VACUUM INTO ?').run(unfinished);
  renameSync(unfinished, path);
}
