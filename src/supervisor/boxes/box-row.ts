// Sends the changes of one box's row to the writer. If the writer does not acknowledge a change, the database may hold
// the old or the new value. Then the whole row is sent again until the database holds what the supervisor knows.
import { type BoxChange, type WriterContract } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { Link } from '../../shared/ipc/link.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import { retryUntilDone } from '../workers/retry.ts';

export interface CommittedRow {
  /**
   * Makes a change that counts only when it is committed. If the commit fails, the changed fields get their old values
   * back, and the promise rejects.
   */
  commit(change: BoxChange): Promise<void>;
  /**
   * Records a fact that is already true. If the commit fails, it is retried in the background, and the promise rejects
   * to say that the fact is not durable yet.
   */
  record(change: BoxChange): Promise<void>;
}

export interface CommittedRowDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly log: Logger;
}

const mutableFields = [
  'name',
  'labels',
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
  /** True while the database may differ from the row. */
  let mayDiffer = false;
  let correcting = false;

  async function send(change: BoxChange): Promise<void> {
    await writer.request('updateBox', { boxId: row.id, change }, { resend: true });
  }

  async function correct(): Promise<void> {
    mayDiffer = true;
    if (correcting) return;
    correcting = true;
    try {
      while (mayDiffer && row.state !== 'removed') {
        mayDiffer = false;
        await retryUntilDone(() => send(fieldsOf(row)));
      }
    } catch (error) {
      const removed = error instanceof BoxRunError && error.code === 'BOX_NOT_FOUND';
      if (!removed) log.error({ err: error }, 'the row of a box cannot be corrected in the database');
    } finally {
      correcting = false;
    }
  }

  /** Other commits run meanwhile. So a field that has changed again keeps its newer value. */
  function undo(change: BoxChange, before: BoxChange): void {
    const changed = Object.entries(change) as [keyof BoxChange, unknown][];
    const own = changed.filter(([field, value]) => row[field] === value).map(([field]) => [field, before[field]]);
    Object.assign(row, Object.fromEntries(own));
  }

  return {
    async commit(change) {
      const before = fieldsOf(row);
      Object.assign(row, change);
      try {
        await send(change);
      } catch (error) {
        undo(change, before);
        void correct();
        throw error;
      }
    },
    async record(change) {
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
  return Object.fromEntries(mutableFields.map((field) => [field, row[field]]));
}
