// Lists of rows in pages, the newest row first. The next page begins at a position, not at a count, so rows that are
// added or removed meanwhile do not shift it. A page has a maximum of rows and of characters, but at least one row.
import type { Database, Statement } from 'better-sqlite3';
import type { BoxStatus } from '../api.ts';
import { limits } from '../limits.ts';
import type { SqlRow, SqlValue } from './rows.ts';

/** The position of a row in a list. The rowid tells rows apart that were made in the same millisecond. */
export interface Position {
  readonly createdAt: string;
  readonly rowid: number;
}

export interface PageRequest {
  /** The maximum of rows. */
  readonly limit: number;
  /** The page begins after this position. Null: at the beginning of the list. */
  readonly after: Position | null;
  /** The page ends at this position at the latest. Absent or null: at the end of the list. */
  readonly until?: Position | null;
  /** The page ends with the row that reaches this number of characters. Absent: no such maximum. */
  readonly charsMax?: number;
}

export interface Page<Row> {
  readonly rows: Row[];
  /** The next page begins after this position. Null: there are no more rows. */
  readonly next: Position | null;
}

/** Selects boxes with this label. `value` null: any value. */
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
  /**
   * Where a list of `page.limit` rows ends: the position of its last row, without the bound `charsMax`. Null: there are
   * no rows after it. A long list is sent in several pages; this fixes its end before the first one is sent.
   */
  boxesEnd(filter: BoxFilter, page: PageRequest): Position | null;
  execsEnd(boxId: string, page: PageRequest): Position | null;
}

type Condition = readonly [sql: string, ...values: SqlValue[]];

/** Makes the lists of a database. */
export function prepareLists(db: Database): Lists {
  const statements = new Map<string, Statement>();

  // While a writer of the version before still runs, the database may not have the column `internal` (rows.ts) yet. It
  // gets the column later.
  const internalColumn = db.prepare(`SELECT 1 FROM pragma_table_info('execs') WHERE name = 'internal'`);
  let hasInternal = false;

  function execsOf(boxId: string): List {
    hasInternal ||= internalColumn.get() !== undefined;
    const isShown: readonly Condition[] = hasInternal ? [['internal IS NOT 1']] : [];
    return { table: 'execs', conditions: [['box_id = ?', boxId], ...isShown] };
  }

  function prepare(sql: string): Statement {
    const statement = statements.get(sql) ?? db.prepare(sql);
    // Every combination of filters gives another SQL text, so clients can make any number of them.
    if (statements.size >= limits.listStatementsMax) statements.clear();
    statements.set(sql, statement);
    return statement;
  }

  function list({ table, conditions }: List, { limit, charsMax = Infinity, ...page }: PageRequest): Page<SqlRow> {
    const { where, values } = whereOf(conditions, page);
    const statement = prepare(`SELECT rowid AS position, * FROM ${table} WHERE ${where} ${newestFirst} LIMIT ?`);
    const rows: SqlRow[] = [];
    let chars = 0;
    // One extra row shows whether there are more.
    for (const found of statement.iterate(...values, limit + 1)) {
      if (rows.length === limit || chars >= charsMax) return { rows, next: positionOf(rows.at(-1)) };
      rows.push(found as SqlRow);
      chars += charsOf(found as SqlRow);
    }
    return { rows, next: null };
  }

  function end({ table, conditions }: List, { limit, ...page }: PageRequest): Position | null {
    const { where, values } = whereOf(conditions, page);
    const sql = `SELECT created_at, rowid AS position FROM ${table} WHERE ${where} ${newestFirst} LIMIT 2 OFFSET ?`;
    const [last, more] = prepare(sql).all(...values, limit - 1) as SqlRow[];
    return more === undefined ? null : positionOf(last);
  }

  return {
    boxes: (filter, page) => list(boxesOf(filter), page),
    execs: (boxId, page) => list(execsOf(boxId), page),
    boxesEnd: (filter, page) => end(boxesOf(filter), page),
    execsEnd: (boxId, page) => end(execsOf(boxId), page),
  };
}

interface List {
  readonly table: 'boxes' | 'execs';
  readonly conditions: readonly Condition[];
}

const newestFirst = 'ORDER BY created_at DESC, rowid DESC';

function boxesOf({ status, labels }: BoxFilter): List {
  const conditions: Condition[] = labels.map(({ key, value }) =>
    value === null
      ? ['EXISTS (SELECT 1 FROM json_each(labels) AS label WHERE label.key = ?)', key]
      : ['EXISTS (SELECT 1 FROM json_each(labels) AS label WHERE label.key = ? AND label.value = ?)', key, value],
  );
  if (status !== null) conditions.unshift(['status = ?', status]);
  return { table: 'boxes', conditions };
}

function whereOf(
  conditions: readonly Condition[],
  { after, until = null }: Pick<PageRequest, 'after' | 'until'>,
): { where: string; values: SqlValue[] } {
  const all: Condition[] = [...conditions];
  if (after !== null) all.push(['(created_at, rowid) < (?, ?)', after.createdAt, after.rowid]);
  if (until !== null) all.push(['(created_at, rowid) >= (?, ?)', until.createdAt, until.rowid]);
  return {
    where: all.map(([sql]) => sql).join(' AND ') || 'true',
    values: all.flatMap(([, ...values]) => values),
  };
}

function positionOf(row: SqlRow | undefined): Position | null {
  return row === undefined ? null : { createdAt: row['created_at'] as string, rowid: row['position'] as number };
}

function charsOf(row: SqlRow): number {
  return Object.values(row).reduce<number>((sum, value) => sum + (typeof value === 'string' ? value.length : 8), 0);
}
