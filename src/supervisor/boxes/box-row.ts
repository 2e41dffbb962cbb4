// The row of one box on its way to the database. box.ts decides what it says; here is what happens when the writer does
// not acknowledge it: nobody knows then what the database says, so it is told again until it does what the supervisor
// knows.
import { type BoxChange, type WriterContract } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { Link } from '../../shared/ipc/link.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import { untilThrough } from './until-through.ts';

export interface CommittedRow {
  /** What cannot be committed has not happened: the row is then as it was. */
  commit(change: BoxChange): Promise<void>;
  /** For what is so whether it can be committed or not. Rejects when it was not, and is committed later. */
  keep(change: BoxChange): Promise<void>;
}

export interface CommittedRowDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly log: Logger;
}

const changing = [
  'name',
  'status',
  'state',
  'boxlite_id',
  'error_code',
  'error_message',
  'started_at',
  'stopped_at',
  'id_block',
] as const;

/** Changes `row` itself. */
export function createCommittedRow({ writer, log }: CommittedRowDeps, row: BoxRow): CommittedRow {
  let open = false;
  let correcting = false;

  async function send(change: BoxChange): Promise<void> {
    await writer.request('updateBox', { boxId: row.id, change }, { resend: true });
  }

  async function correct(): Promise<void> {
    open = true;
    if (correcting) return;
    correcting = true;
    try {
      while (open && row.state !== 'removed') {
        open = false;
        await untilThrough(() => send(fieldsOf(row)));
      }
    } catch (error) {
      const removed = error instanceof BoxRunError && error.code === 'BOX_NOT_FOUND';
      if (!removed) log.error({ err: error }, 'the row of a box cannot be brought in line');
    } finally {
      correcting = false;
    }
  }

  return {
    async commit(change) {
      const before = fieldsOf(row);
      Object.assign(row, change);
      try {
        await send(change);
      } catch (error) {
        Object.assign(row, before);
        void correct();
        throw error;
      }
    },
    async keep(change) {
      Object.assign(row, change);
      try {
        await send(change);
      } catch (error) {
        void correct();
        throw error;
      }
    },
  };
}

function fieldsOf(row: BoxRow): BoxChange {
  return Object.fromEntries(changing.map((field) => [field, row[field]]));
}
