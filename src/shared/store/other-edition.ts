// Converts the database of another edition of BoxRun, which is another implementation. It has the same three tables,
// but another form of times, several events of one command with the same `seq`, and commands without an exit event.
// Everything runs in the caller's transaction: if one row cannot be converted, the database stays as it was.
import type { Database } from 'better-sqlite3';
import { Value } from 'typebox/value';
import { timestamp } from '../waiting/clock.ts';
import { BoxRunError } from '../errors.ts';
import { imageAliases } from '../images/source.ts';
import { exitEventData } from '../lifecycle/exec.ts';
import { BoxRow, ExecRow, toSql, type SqlRow } from './rows.ts';

const tables = ['boxes', 'execs', 'events'] as const;
const oldName = (table: string) => `other_${table}`;
/** SQL that converts a time of RFC 3339, with any zone and any number of digits, to the form of this edition. */
const asTime = (column: string) => `coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', ${column}), ${column})`;
const lostMessage = 'its server ended while it ran';

/** True if a database without a version has the tables of a BoxRun edition. */
export function isOtherEdition(db: Database): boolean {
  return tables.every((table) => {
    const names = columnsOf(db, table);
    return ['id', 'created_at', ...(table === 'events' ? ['exec_id', 'seq', 'data'] : ['status'])].every((name) =>
      names.has(name),
    );
  });
}

/** Renames the old tables, so that this edition's tables can be made. */
export function renameOldTables(db: Database): void {
  for (const table of tables) db.exec(`ALTER TABLE ${table} RENAME TO ${oldName(table)}`);
}

/**
 * Fills this edition's tables from the old tables, and removes the old ones.
 * @throws RUNTIME_ERROR if a row cannot be converted
 */
export function convertRows(db: Database): void {
  convertBoxes(db);
  convertExecs(db);
  for (const table of [...tables].reverse()) db.exec(`DROP TABLE ${oldName(table)}`);
}

function columnsOf(db: Database, table: string): Set<string> {
  return new Set(db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table) as string[]);
}

function convertBoxes(db: Database): void {
  const now = timestamp();
  const insert = insertInto(db, 'boxes', Object.keys(BoxRow.properties));
  for (const old of db
    .prepare(`SELECT *, ${times('created_at', 'started_at', 'stopped_at')} FROM ${oldName('boxes')}`)
    .all() as SqlRow[]) {
    // No box of the other edition runs any more: they ended with its server.
    const status = old['status'] === 'error' ? 'error' : 'stopped';
    insert.run(
      checked(BoxRow, 'box', {
        ...old,
        status,
        state: status === 'error' ? 'failed' : 'stopped',
        disk_size_gb: old['disk_size_gb'] ?? 8,
        network: old['network'] === 1,
        env: jsonOf(old['env'], 'object'),
        volumes: volumesOf(old['volumes']),
        stopped_at: old['stopped_at'] ?? (status === 'stopped' ? now : null),
        generation: 0,
        ephemeral: false,
        driver: 'boxlite',
        labels: null,
        ulimits: null,
        id_block: null,
        stop_grace_s: null,
        cpu_limit: null,
        image_source: { kind: 'registry', reference: imageAliases[String(old['image'])] ?? old['image'] },
      }),
    );
  }
}

function convertExecs(db: Database): void {
  const now = timestamp();
  const insert = insertInto(db, 'execs', Object.keys(ExecRow.properties));
  const insertEvent = insertInto(db, 'events', ['exec_id', 'seq', 'type', 'stream', 'data', 'created_at']);
  const execs = db
    .prepare(
      `SELECT *, ${times('created_at', 'finished_at')} FROM ${oldName('execs')} WHERE box_id IN (SELECT id FROM boxes)`,
    )
    .all() as SqlRow[];
  for (const old of execs) {
    const isLost = old['status'] === 'running';
    insert.run(
      checked(ExecRow, 'exec', {
        ...old,
        ...(isLost ? { status: 'failed', error_message: lostMessage } : {}),
        cmd: jsonOf(old['cmd'], 'array') ?? [],
        env: jsonOf(old['env'], 'object'),
        finished_at: old['finished_at'] ?? now,
        generation: 0,
        internal: null,
        detachable: false,
        trimmed_bytes: null,
      }),
    );
  }
  db.exec(`
    INSERT INTO events (exec_id, seq, type, stream, data, created_at)
    SELECT exec_id, row_number() OVER (PARTITION BY exec_id ORDER BY seq, id) - 1, 'log', coalesce(stream, 'stdout'),
           CAST(data AS BLOB), ${asTime('created_at')}
    FROM ${oldName('events')} WHERE type = 'log' AND exec_id IN (SELECT id FROM execs)
    ORDER BY id`);
  // Every command gets a new exit event as its last event, because the other edition wrote none for canceled and lost
  // commands. Its own exit events are not copied above.
  const ends = db.prepare(
    `SELECT id, status, exit_code, error_message, finished_at, (SELECT count(*) FROM events WHERE exec_id = execs.id) AS seq FROM execs`,
  );
  for (const exec of ends.all() as SqlRow[]) {
    const canceled = exec['status'] === 'canceled';
    const errorMessage = exec['error_message'] ?? (canceled ? 'canceled' : null);
    const data = exitEventData({
      exitCode: exec['exit_code'] as number | null,
      errorMessage: errorMessage as string | null,
      canceled,
    });
    insertEvent.run({
      exec_id: exec['id'] ?? null,
      seq: exec['seq'] ?? 0,
      type: 'exit',
      stream: null,
      data: Buffer.from(data),
      created_at: exec['finished_at'] ?? now,
    });
  }
}

function times(...columns: readonly string[]): string {
  return columns.map((column) => `${asTime(column)} AS ${column}`).join(', ');
}

function insertInto(db: Database, table: string, columns: readonly string[]) {
  return db.prepare(
    `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map((name) => `$${name}`).join(', ')})`,
  );
}

/** The columns of a row. @throws RUNTIME_ERROR if the row does not fit the schema */
function checked(schema: typeof BoxRow | typeof ExecRow, kind: string, found: Record<string, unknown>): SqlRow {
  const row = Object.fromEntries(Object.keys(schema.properties).map((name) => [name, found[name] ?? null]));
  if (Value.Check(schema, row)) return toSql(row);
  const [first] = Value.Errors(schema, row);
  throw new BoxRunError(
    'RUNTIME_ERROR',
    `the ${kind} ${String(found['id'])} of the other edition cannot be converted: ${first?.instancePath ?? ''} ${first?.message ?? ''}`,
  );
}

function jsonOf(text: unknown, kind: 'object' | 'array'): unknown {
  if (typeof text !== 'string') return null;
  try {
    const value: unknown = JSON.parse(text);
    const found = Array.isArray(value) ? 'array' : typeof value;
    return value !== null && found === kind ? value : null;
  } catch {
    return null; // The other edition ignores such a text too.
  }
}

function volumesOf(text: unknown): unknown {
  const volumes = jsonOf(text, 'array') as { host_path?: unknown; guest_path?: unknown; readonly?: unknown }[] | null;
  return (
    volumes?.map(({ host_path, guest_path, readonly }) => ({ host_path, guest_path, readonly: readonly === true })) ??
    null
  );
}
