// Rows of the database as objects: the fields of the public objects, and fields that only BoxRun's processes see.
// SQLite stores maps and lists as JSON text, and booleans as 0 and 1; this file converts in both directions.
import { Type, type Static } from 'typebox';
import { Box, Exec } from '../api.ts';
import { ImageSource } from '../images/source.ts';
import { boxStates } from '../lifecycle/box.ts';

export const BoxRow = Type.Object({
  ...Box.properties,
  state: Type.Enum([...boxStates]),
  /**
   * It rises by one when a lease is opened, and when the present lease is closed. The writer refuses changes of an
   * older generation.
   */
  generation: Type.Integer({ minimum: 0 }),
  /** True for the box of a run. The supervisor always removes it in the end. */
  ephemeral: Type.Boolean(),
  driver: Type.Union([Type.Literal('boxlite'), Type.Literal('container')]),
  image_source: Type.Union([ImageSource, Type.Null()]),
  /** The number of its block of ids on the host (id-ranges.ts). Null: it has none yet. */
  id_block: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
  labels: Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()]),
});
export type BoxRow = Static<typeof BoxRow>;

export const ExecRow = Type.Object({
  ...Exec.properties,
  generation: Type.Integer({ minimum: 0 }),
  /** True: clients see it only by its id, not in lists and state events. Workers of the version before omit it. */
  internal: Type.Optional(Type.Union([Type.Boolean(), Type.Null()])),
  /** Bytes of output that were removed, because the command is a detachable terminal. */
  trimmed_bytes: Type.Optional(Type.Union([Type.Integer({ minimum: 0 }), Type.Null()])),
});
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

const jsonColumns = new Set(['env', 'volumes', 'cmd', 'image_source', 'labels', 'ulimits', 'usage']);
const booleanColumns = new Set(['network', 'ephemeral', 'internal', 'detachable']);

/** The columns for the fields of a row. */
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

/** The object for a row of SQLite. */
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
/** The fields that clients see. */
export const publicBoxFields: ReadonlySet<string> = new Set(boxFields);
const execFields = Object.keys(Exec.properties) as (keyof Exec)[];

/** The box that clients see. */
export function publicBox(row: BoxRow): Box {
  return { ...Object.fromEntries(boxFields.map((field) => [field, row[field]])), labels: row.labels ?? {} } as Box;
}

/** The exec that clients see. */
export function publicExec(row: ExecRow): Exec {
  const fields = row.detachable === true ? execFields : execFields.filter((field) => field !== 'detachable');
  return Object.fromEntries(fields.map((field) => [field, row[field]])) as Exec;
}
