// Prints a list in the form that the user chose: a table, JSON, only ids, or a line of --format for each row.
// Nothing else is printed to standard output, so that programs can read it.
import { printJson, printLines } from './render.ts';

export interface ListForm {
  readonly isJson: boolean;
  readonly isQuiet: boolean;
  /** Makes the line of one row. Null: a table. */
  readonly line: ((row: Readonly<Record<string, unknown>>) => string) | null;
}

interface Shown<Row> {
  readonly idOf: (row: Row) => string;
  readonly table: () => string;
}

/** `isJson` wins over `isQuiet`, as in earlier versions. */
export function printList<Row extends object>(
  rows: readonly Row[],
  { isJson, isQuiet, line }: ListForm,
  { idOf, table }: Shown<Row>,
): void {
  if (isJson) printJson(rows);
  else if (isQuiet) printLines(...rows.map(idOf));
  else if (line !== null) process.stdout.write(rows.map((row) => line({ ...row } as Record<string, unknown>)).join(''));
  else process.stdout.write(table());
}
