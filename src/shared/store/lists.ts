// Lists of rows, newest first, whole or in pages. A page ends at a position, not at a count, so that rows which are
// added or removed meanwhile shift nothing. Used by reader.ts; routes turn positions into cursors for clients.
import type { Database, Statement } from 'better-sqlite3';
import type { BoxStatus } from '../api.ts';
import { limits } from '../limits.ts';
import type { SqlRow, SqlValue } from './rows.ts';

/** Of a row in a list: rows made within one millisecond are told apart by their rowid. */
export interface Position {
  readonly createdAt: string;
  readonly rowid: number;
}

export interface PageRequest {
  /** Rows at most; null for all. */
  readonly limit: number | null;
  /** The page starts behind it. */
  readonly after: Position | null;
}

export interface Page<Row> {
  readonly rows: Row[];
  /** Where the next page starts; null at the end. */
  readonly next: Position | null;
}

/** Boxes with this label, of any value where `value` is null. */
export interface LabelFilter {
  readonly key: string;
  readonly value: string | null;
}

export interface BoxFilter {
  readonly status: BoxStatus | null;
  readonly labels: readonly LabelFilter[];
}

export interface Lists {
  boxes(filter: BoxFilter, page: PageRequest): Page<SqlRow>;
  execs(boxId: string, page: PageRequest): Page<SqlRow>;
}

type Condition = readonly [sql: string, ...values: SqlValue[]];

export function prepareLists(db: Database): Lists {
  const statements = new Map<string, Statement>();

  function list(
    table: 'boxes' | 'execs',
    conditions: readonly Condition[],
    { limit, after }: PageRequest,
  ): Page<SqlRow> {
    const all: Condition[] = [...conditions];
    if (after !== null) all.push(['(created_at, rowid) < (?, ?)', after.createdAt, after.rowid]);
    const where = all.map(([sql]) => sql).join(' AND ') || 'true';
    const sql = `SELECT rowid AS position, * FROM ${table} WHERE ${where} ORDER BY created_at DESC, rowid DESC LIMIT ?`;
    const statement = statements.get(sql) ?? db.prepare(sql);
    // What a client asks for decides the text, so there are many: with every mix of labels another one.
    if (statements.size >= limits.listStatementsMax) statements.clear();
    statements.set(sql, statement);
    // One more than is asked for tells whether there are more.
    const found = statement.all(...all.flatMap(([, ...values]) => values), limit === null ? -1 : limit + 1) as SqlRow[];
    const rows = limit === null ? found : found.slice(0, limit);
    const last = rows.length < found.length ? rows.at(-1) : undefined;
    const next =
      last === undefined ? null : { createdAt: last['created_at'] as string, rowid: last['position'] as number };
    return { rows, next };
  }

  return {
    boxes({ status, labels }, page) {
      const conditions: Condition[] = labels.map(({ key, value }) =>
        value === null
          ? ['EXISTS (SELECT 1 FROM json_each(labels) AS label WHERE label.key = ?)', key]
          : ['EXISTS (SELECT 1 FROM json_each(labels) AS label WHERE label.key = ? AND label.value = ?)', key, value],
      );
      if (status !== null) conditions.unshift(['status = ?', status]);
      return list('boxes', conditions, page);
    },
    execs: (boxId, page) => list('execs', [['box_id = ?', boxId]], page),
  };
}
