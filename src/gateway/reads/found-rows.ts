// A box or a command that a client has named, as its row says it now. Every route that must have one looks here, so a
// missing one gets the same answer everywhere.
import type { Exec } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { Rows } from './reader-pool.ts';

export interface ExecName {
  /** Id or name of the box. */
  readonly box: string;
  readonly exec: string;
}

type RowsHere = Pick<Rows, 'box' | 'exec'>;

/** @throws BOX_NOT_FOUND, EXEC_NOT_FOUND */
export async function findExec(rows: RowsHere, name: ExecName): Promise<Exec> {
  return (await rows.exec(name.box, name.exec)) ?? (await raiseNoExec(rows, name));
}

/** For a command that is not there: says whether it is the box that is missing. */
export async function raiseNoExec(rows: RowsHere, { box, exec }: ExecName): Promise<never> {
  if ((await rows.box(box)) === null) raiseNoBox(box);
  throw new BoxRunError('EXEC_NOT_FOUND', `box '${box}' has no exec '${exec}'`);
}

export function raiseNoBox(box: string): never {
  throw new BoxRunError('BOX_NOT_FOUND', `there is no box '${box}'`);
}
