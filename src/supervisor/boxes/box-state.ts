// The state of one box, and the only place that assigns it. Each change of state goes to the database together with
// the fields that belong to it, and the quota of the box follows.
import type { BoxChange } from '../../shared/contracts/writer.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { boxTable, holdsQuota, publicStatus, type BoxCause } from '../../shared/lifecycle/box.ts';
import { step } from '../../shared/lifecycle/machine.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { Quota } from '../admission/quota.ts';
import { failure } from './box-answers.ts';
import type { CommittedRow } from './box-row.ts';

export interface BoxStateChanges {
  /**
   * Makes a change of state that counts only when it is committed. Resolves then. If the commit fails, the box stays in
   * its old state.
   */
  transition(cause: BoxCause, change?: BoxChange): Promise<void>;
  /**
   * Records a change of state that has already happened. If the commit fails, it is retried in the background, and the
   * promise rejects to say that the change is not durable yet.
   */
  record(cause: BoxCause, change?: BoxChange): Promise<void>;
  /**
   * Like `record`, but it never rejects: it logs a failed commit, and also a cause that is not possible in the present
   * state.
   */
  recordOrLog(cause: BoxCause, change?: BoxChange): Promise<void>;
  /** Like `recordOrLog`, with `error` in the row. Does nothing if `cause` is not possible in the present state. */
  recordFailure(cause: BoxCause, error: unknown): Promise<void>;
}

export interface BoxStateDeps {
  readonly committed: CommittedRow;
  readonly quota: Quota;
  readonly log: Logger;
}

/** Changes `row` itself. */
export function createBoxState({ committed, quota, log }: BoxStateDeps, row: BoxRow): BoxStateChanges {
  async function enter(cause: BoxCause, change: BoxChange, assign: CommittedRow['commit']): Promise<void> {
    const next = step(boxTable, row.state, cause);
    if (next === null) throw new BoxRunError('RUNTIME_ERROR', `box ${row.id}: ${cause} in state ${row.state}`);
    log.info({ from: row.state, to: next, cause }, 'box changes state');
    // A box that is being removed keeps the status that clients saw before.
    const status = next === 'removing' ? row.status : publicStatus(next);
    try {
      // A removed box has no row in the database any more.
      if (next === 'removed') Object.assign(row, { state: next, status });
      else await assign({ ...change, state: next, status });
    } finally {
      if (!holdsQuota(row.state)) quota.release(row.id);
      else if (row.state === 'stuck') quota.adopt(row.id, row.cpu, row.memory_mb);
    }
  }

  const record = (cause: BoxCause, change: BoxChange = {}) => enter(cause, change, committed.record);

  async function recordOrLog(cause: BoxCause, change: BoxChange = {}): Promise<void> {
    await record(cause, change).catch((problem: unknown) => {
      log.error({ err: problem, cause }, 'a change of state could not be committed yet');
    });
  }

  return {
    transition: (cause, change = {}) => enter(cause, change, committed.commit),
    record,
    recordOrLog,
    async recordFailure(cause, error) {
      if (step(boxTable, row.state, cause) === null) return;
      await recordOrLog(cause, failure(toBoxRunError(error)));
    },
  };
}
