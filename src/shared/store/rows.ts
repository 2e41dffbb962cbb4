// Rows of the database as values: the public objects plus what only BoxRun's own processes need.
// SQLite keeps maps and lists as JSON text and booleans as 0 and 1; both directions are here.
import { Type, type Static } from 'typebox';
import { Box, Exec } from '../api.ts';
import { ImageSource } from '../images/source.ts';
import { boxStates } from '../lifecycle/box.ts';

export const BoxRow = Type.Object({
  ...Box.properties,
  state: Type.Enum([...boxStates]),
  /** Raised by one with each lease; the writer refuses events of an older one. */
  generation: Type.Integer({ minimum: 0 }),
  /** Made by /v1/run: removed whatever happens. */
  ephemeral: Type.Boolean(),
  driver: Type.Union([Type.Literal('boxlite'), Type.Literal('container')]),
  image_source: Type.Union([ImageSource, Type.Null()]),
  /** Its range of ids on the host (id-ranges.ts); null until it has one. */
  id_block: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
  labels: Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()]),
});
export type BoxRow = Static<typeof BoxRow>;

export const ExecRow = Type.Object({ ...Exec.properties, generation: Type.Integer({ minimum: 0 }) });
export type ExecRow = Static<typeof ExecRow>;

export const EventRow = Type.Object({
  seq: Type.Integer({ minimum: 0 }),
  type: Type.Union([Type.Literal('log'), Type.Literal('exit')]),
  stream: Type.Union([Type.Literal('stdout'), Type.Literal('stderr'), Type.Null()]),
  data: Type.Unsafe<Uint8Array>(Type.Unknown()),
});
export type EventRow = Static<typeof EventRow>;

export type SqlValue = string | number | bigint | Uint8Array | null;
export type SqlRow = Record<string, SqlValue>;

const jsonColumns = new Set(['env', 'volumes', 'cmd', 'image_source', 'labels', 'ulimits']);
const booleanColumns = new Set(['network', 'ephemeral']);

/** Column values for the fields of a row, in SQLite's terms. */
export function toSql(row: Readonly<Record<string, unknown>>): SqlRow {
  const columns: SqlRow = {};
  for (const [name, value] of Object.entries(row)) {
    if (value === null || value === undefined) columns[name] = null;
    else if (jsonColumns.has(name)) columns[name] = JSON.stringify(value);
    else if (booleanColumns.has(name)) columns[name] = value === true ? 1 : 0;
    else columns[name] = value as SqlValue;
  }
  return columns;
}

/** The value behind a row as SQLite gives it. */
export function fromSql<Row extends BoxRow | ExecRow>(columns: SqlRow): Row {
  const row: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(columns)) {
    if (value !== null && jsonColumns.has(name)) row[name] = JSON.parse(value as string) as unknown;
    else if (booleanColumns.has(name)) row[name] = value === 1;
    else row[name] = value;
  }
  return row as Row;
}

const boxFields = Object.keys(Box.properties) as (keyof Box)[];
/** Those that clients see. */
export const publicBoxFields: ReadonlySet<string> = new Set(boxFields);
const execFields = Object.keys(Exec.properties) as (keyof Exec)[];

/** What clients see of a box. */
export function publicBox(row: BoxRow): Box {
  return { ...Object.fromEntries(boxFields.map((field) => [field, row[field]])), labels: row.labels ?? {} } as Box;
}

/** What clients see of an exec. */
export function publicExec(row: ExecRow): Exec {
  return Object.fromEntries(execFields.map((field) => [field, row[field]])) as Exec;
}
