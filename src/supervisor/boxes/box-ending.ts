// The ways in which one box ends: it is stopped, it is removed, its create is rolled back, or it ends in trouble.
// While the engine may still run, the box counts against the quota and its state says so.
import { timestamp } from '../../shared/waiting/clock.ts';
import type { WriterContract } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { Link } from '../../shared/ipc/link.ts';
import type { BoxCause } from '../../shared/lifecycle/box.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { BoxWorker } from '../workers/box-worker.ts';
import { stopGraceOf } from './box-answers.ts';
import type { CommittedRow } from './box-row.ts';
import type { BoxStateChanges } from './box-state.ts';

export interface BoxEnding {
  /**
   * @param graceMs how long the processes of the box have to end by themselves, in milliseconds
   * @throws the error of the worker; the box is then stuck
   */
  stop(graceMs?: number): Promise<void>;
  /**
   * Removes the box from the host and from the database.
   * @throws BOX_NOT_FOUND when the box has been removed already; the errors of the worker and the writer
   */
  remove(graceMs?: number): Promise<void>;
  /**
   * Removes everything that a failed create has made. If that fails too, the row stays, so that a client can see the
   * error and remove the box. It stays without its name.
   */
  rollBack(reason: unknown): Promise<void>;
  /**
   * Ends the rest of the engine, and records `cause` with `error`. If it is not certain that the engine has ended, the
   * box becomes stuck and still counts against the quota.
   */
  endInTrouble(cause: BoxCause, error: unknown): Promise<void>;
  /** Records that the engine has ended by itself, and removes what the engine has left behind. */
  endAfterEngineExit(reason: string): Promise<void>;
  /** Ends the whole box, because one of its commands cannot be killed and must not go on. */
  endForCommand(reason: string): Promise<void>;
}

export interface BoxEndingDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly worker: BoxWorker;
  readonly committed: CommittedRow;
  readonly state: BoxStateChanges;
  readonly log: Logger;
  readonly onRemoved: () => void;
  readonly onNameReleased: () => void;
}

export function createBoxEnding(deps: BoxEndingDeps, row: Readonly<BoxRow>): BoxEnding {
  const { worker, state } = deps;
  /** True when the worker has removed everything of the box from the host, so that only rows are left. */
  let isHostClean = false;

  async function endInTrouble(cause: BoxCause, error: unknown): Promise<void> {
    const ended = await worker.tryStop();
    await state.recordFailure(ended ? cause : 'end-failed', error);
  }

  async function removeFromHost(graceMs: number): Promise<void> {
    if (row.state !== 'removing') await state.transition('remove-asked');
    faultPoint('supervisor.remove.asked');
    try {
      await worker.remove(graceMs);
    } catch (error) {
      await endInTrouble('remove-failed', error);
      throw error;
    }
    isHostClean = true;
    faultPoint('supervisor.remove.ended');
  }

  async function remove(graceMs: number = limits.removeGraceMs): Promise<void> {
    if (row.state === 'removed') throw new BoxRunError('BOX_NOT_FOUND', `there is no box ${row.id}`);
    if (isHostClean) {
      // An earlier removal got no answer from the writer, so the row may be gone. A failed commit must not stop this
      // removal.
      await state.recordOrLog('remove-asked');
    } else {
      await removeFromHost(graceMs);
    }
    try {
      await deps.writer.request('removeBox', { boxId: row.id }, { resend: true });
    } catch (error) {
      await state.recordFailure('remove-failed', error);
      throw error;
    }
    faultPoint('supervisor.remove.rows-gone');
    await state.transition('remove-done');
    deps.onRemoved();
  }

  return {
    async stop(graceMs = stopGraceOf(row)) {
      if (row.state !== 'stopping') await state.transition('stop-asked');
      faultPoint('supervisor.stop.asked');
      try {
        await worker.stop(graceMs);
      } catch (error) {
        await state.recordFailure('end-failed', error);
        throw error;
      }
      faultPoint('supervisor.stop.ended');
      await state.record('stop-done', { stopped_at: timestamp() });
    },
    remove,
    async rollBack(reason) {
      // Recorded even while the writer is away: the engine must be removed in any case.
      await state.recordFailure('remove-asked', reason);
      try {
        await remove();
      } catch (error) {
        deps.log.error({ err: error }, 'the rest of a failed create could not be removed');
        deps.onNameReleased();
        await deps.committed.record({ name: null }).catch(() => undefined);
      }
    },
    endInTrouble,
    async endAfterEngineExit(reason) {
      await endInTrouble('engine-died', new BoxRunError('RUNTIME_ERROR', reason));
    },
    async endForCommand(reason) {
      await state.recordOrLog('stop-asked');
      await endInTrouble('kill-failed', new BoxRunError('TIMEOUT', reason));
    },
  };
}
