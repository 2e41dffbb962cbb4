// One box: its state, its row, its worker. The only place that assigns a box's state; every change is committed before
// it is answered. Operations that change the box run one after the other; commands run beside them.
import { publicBox, type BoxRow } from '../../shared/store/rows.ts';
import type { Box, Exec } from '../../shared/api.ts';
import { timestamp } from '../../shared/waiting/clock.ts';
import type { ExecOrder, StreamGrant, StreamOperation } from '../../shared/contracts/worker.ts';
import type { BoxChange, WriterContract } from '../../shared/contracts/writer.ts';
import { BoxRunError, errorText, toBoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { createInTurn } from '../../shared/waiting/in-turn.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { boxTable, holdsQuota, publicStatus, type BoxCause, type BoxState } from '../../shared/lifecycle/box.ts';
import { step } from '../../shared/lifecycle/machine.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { createRestartWindow } from '../../shared/process/restart-window.ts';
import { createStopwatch, type Stopwatch } from '../../shared/observe/stage-times.ts';
import {
  alreadyRunning,
  assertReady,
  diskIsFull,
  failure,
  notRunning,
  startable,
  stopGraceOf,
  stoppable,
} from './box-answers.ts';
import { createCommittedRow, type CommittedRow } from './box-row.ts';
import { judgeBox, type BoxTrouble, type OutsideView } from './box-trouble.ts';
import type { BoxWorker, TimedExec } from '../workers/box-worker.ts';
import type { Quota } from '../admission/quota.ts';

export type ReportProgress = (stage: string, message: string) => void;

export interface BoxDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly quota: Quota;
  readonly log: Logger;
  readonly worker: BoxWorker;
  /** The row is gone: forget the box. */
  readonly onRemoved: () => void;
  /** The box stays without its name. */
  readonly onNameFreed: () => void;
  /**
   * A range of ids of the host for this box alone; null where its driver has no use for one.
   * @throws RESOURCE_EXCEEDED
   */
  readonly claimIdBlock: () => number | null;
}

export interface SupervisedBox {
  readonly id: string;
  readonly row: Readonly<BoxRow>;
  readonly state: BoxState;
  /** Brings a new box up; its row is committed already. On failure nothing of it is left. */
  create(progress: ReportProgress, watch?: Stopwatch): Promise<Box>;
  start(progress: ReportProgress, watch?: Stopwatch): Promise<Box>;
  /** Its processes have `graceMs` to end by themselves; without it, what the box itself says. */
  stop(graceMs?: number): Promise<Box>;
  remove(force: boolean, graceMs?: number): Promise<void>;
  /** Resolves when everything that was asked for so far is done or has failed. */
  settled(): Promise<void>;
  startExec(order: ExecOrder): Promise<TimedExec>;
  cancelExec(execId: string): Promise<Exec>;
  signalExec(execId: string, signal: number): Promise<Exec>;
  openStream(operation: StreamOperation): Promise<StreamGrant>;
  /** While the host's disk is nearly full, a running box says so. */
  noteHostDisk(isFull: boolean): Promise<void>;
  /** After a restart of the supervisor: goes on from the state in the row. */
  resume(): Promise<void>;
  /** What is not as its row says; null while it is changing, or all is well. */
  findTrouble(seen: OutsideView): Promise<BoxTrouble | null>;
  /** Ends a trouble that was found, unless the box has gone on since. @throws what keeps it from that */
  setRight(found: BoxTrouble): Promise<void>;
  /**
   * Its row is gone: lets go of name, place, quota and worker. What is left on the host belongs to no box from then on.
   */
  forget(): Promise<void>;
}

export function createBox(deps: BoxDeps, row: BoxRow): SupervisedBox {
  return new OwnedBox(deps, row);
}

class OwnedBox implements SupervisedBox {
  readonly #deps: BoxDeps;
  readonly #row: BoxRow;
  readonly #log: Logger;
  readonly #restarts = createRestartWindow(limits.workerRestartsMax);
  readonly #committed: CommittedRow;
  readonly #inTurn = createInTurn();
  /** Ends what brings the box up: a forced removal does not wait for it. */
  #bringingUp = new AbortController();
  /** Its worker has removed everything; only rows are left. */
  #onlyRows = false;

  constructor(deps: BoxDeps, row: BoxRow) {
    this.#deps = deps;
    this.#row = row;
    this.#log = deps.log.child({ boxId: row.id });
    this.#committed = createCommittedRow({ writer: deps.writer, log: this.#log }, row);
    deps.worker.onLost = () => {
      this.#onTrouble('recovering a box', () => this.#recover('worker exited'));
    };
    deps.worker.onEngineExit = (reason) => {
      this.#onTrouble('noting the end of an engine', () => this.#engineDied(reason));
    };
    deps.worker.onUnkillable = (reason) => {
      this.#onTrouble('stopping a box with a command that cannot be killed', () => this.#endForCommand(reason));
    };
  }

  get id(): string {
    return this.#row.id;
  }

  get row(): Readonly<BoxRow> {
    return this.#row;
  }

  get state(): BoxState {
    return this.#row.state;
  }

  create(progress: ReportProgress, watch = createStopwatch()): Promise<Box> {
    return this.#inTurn(async () => {
      try {
        const { engineId } = await this.#deps.worker.create(progress, this.#bringingUp.signal, watch);
        const change = { boxlite_id: engineId, started_at: timestamp() };
        await watch.time('commit', () => this.#transition('brought-up', change));
        return publicBox(this.#row);
      } catch (error) {
        this.#log.warn({ err: error }, 'creating a box failed; it is removed');
        await this.#rollBack(error);
        throw error;
      }
    });
  }

  start(progress: ReportProgress, watch = createStopwatch()): Promise<Box> {
    return this.#inTurn(async () => {
      const { row } = this;
      if (!startable.has(row.state)) throw alreadyRunning(row);
      this.#deps.quota.reserve(row.id, row.cpu, row.memory_mb);
      // A box of an earlier version gets its own range now.
      const idBlock = row.id_block ?? this.#deps.claimIdBlock();
      await this.#transition('start-asked', { error_code: null, error_message: null, id_block: idBlock });
      faultPoint('supervisor.start.asked');
      this.#bringingUp = new AbortController();
      try {
        await this.#deps.worker.start(progress, this.#bringingUp.signal, watch);
        const change = { started_at: timestamp(), stopped_at: null };
        await watch.time('commit', () => this.#transition('brought-up', change));
        return publicBox(row);
      } catch (error) {
        await this.#endAs('start-failed', error);
        throw error;
      }
    });
  }

  stop(graceMs: number = stopGraceOf(this.#row)): Promise<Box> {
    return this.#inTurn(async () => {
      if (!stoppable.has(this.state)) throw notRunning(this.row);
      await this.#stopNow(graceMs);
      return publicBox(this.#row);
    });
  }

  remove(force: boolean, graceMs: number = limits.removeGraceMs): Promise<void> {
    if (force && (this.state === 'creating' || this.state === 'starting')) this.#bringingUp.abort();
    return this.#inTurn(async () => {
      const { row } = this;
      const status = publicStatus(row.state);
      if (!force && (status === 'creating' || status === 'running')) {
        throw new BoxRunError('BOX_ALREADY_RUNNING', `box ${row.name ?? row.id} is running`, {
          hint: 'stop it first, or remove it with force',
        });
      }
      await this.#removeNow(graceMs);
    });
  }

  async startExec(order: ExecOrder): Promise<TimedExec> {
    assertReady(this.row);
    return this.#deps.worker.exec(order);
  }

  async cancelExec(execId: string): Promise<Exec> {
    assertReady(this.row);
    return this.#deps.worker.cancelExec(execId);
  }

  async signalExec(execId: string, signal: number): Promise<Exec> {
    assertReady(this.row);
    return this.#deps.worker.signalExec(execId, signal);
  }

  async openStream(operation: StreamOperation): Promise<StreamGrant> {
    assertReady(this.row);
    return this.#deps.worker.openStream(operation);
  }

  settled(): Promise<void> {
    return this.#inTurn(async () => undefined);
  }

  async noteHostDisk(isFull: boolean): Promise<void> {
    const { row } = this;
    const says = row.error_code === diskIsFull.error_code && row.error_message === diskIsFull.error_message;
    if (says === isFull || row.state !== 'ready' || (isFull && row.error_code !== null)) return;
    const change = isFull ? diskIsFull : { error_code: null, error_message: null };
    await this.#committed.keep(change).catch((problem: unknown) => {
      this.#log.error({ err: problem }, 'what the box says of the disk could not be committed yet');
    });
  }

  resume(): Promise<void> {
    return this.#inTurn(async () => {
      const { worker } = this.#deps;
      const found = await worker.adopt().catch((error: unknown) => this.#hangs(error));
      if (found === 'hangs') return;
      if (this.state === 'creating') {
        await this.#rollBack(new BoxRunError('RUNTIME_ERROR', 'the server ended while the box was being created'));
      } else if (this.row.ephemeral || this.state === 'removing') {
        await this.#removeNow();
      } else if (this.state === 'stopping') {
        await this.#stopNow();
      } else if (this.state === 'ready' && found !== null) {
        if (!found.running) await this.#engineDied('the engine ended while no supervisor was there');
      } else if (this.state === 'ready' || this.state === 'recovering') {
        await this.#recover('worker exited');
      } else if (this.state === 'starting') {
        const message = 'the server ended while the box was starting';
        await this.#endAs('start-failed', new BoxRunError('RUNTIME_ERROR', message));
      } else if (this.state === 'stuck') {
        if (await worker.halt()) await this.#note('found-ended');
      } else if (found !== null) {
        await worker.abandon();
      }
    });
  }

  /**
   * Its worker neither answers nor dies. What was to be removed is tried all the same; all else waits for somebody, or
   * for its end.
   */
  async #hangs(error: unknown): Promise<'hangs' | null> {
    if (step(boxTable, this.state, 'end-failed') === null || this.state === 'removing' || this.row.ephemeral)
      return null;
    const reason = `its worker hangs, and cannot be killed: ${errorText(error)}`;
    await this.#fail('end-failed', new BoxRunError('TIMEOUT', reason, { cause: error }));
    return 'hangs';
  }

  findTrouble(seen: OutsideView): Promise<BoxTrouble | null> {
    return judgeBox(this.#row, this.#deps.worker, seen);
  }

  setRight({ kind, state, generation }: BoxTrouble): Promise<void> {
    return this.#inTurn(async () => {
      const { worker } = this.#deps;
      if (this.state !== state || this.#row.generation !== generation) return;
      if (kind === 'worker') return this.#recover('worker exited');
      if (kind === 'commands') return worker.abandon();
      if (state === 'ready') return this.#engineDied('the engine had ended, and nobody said so');
      if (!(await worker.halt())) throw new BoxRunError('RUNTIME_ERROR', `what runs of box ${this.id} cannot be ended`);
      if (this.state === 'stuck') await this.#note('found-ended');
    });
  }

  forget(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.state !== 'removing') await this.#note('remove-asked');
      await this.#deps.worker.abandon();
      await this.#transition('remove-done');
      this.#deps.onRemoved();
    });
  }

  /** To the next state; resolves when that is committed. What cannot be committed has not happened. */
  async #transition(cause: BoxCause, change: BoxChange = {}): Promise<void> {
    await this.#enter(cause, change, (whole) => this.#committed.commit(whole));
  }

  /** To a state that is so whether it can be committed or not; rejects when it is not committed yet. */
  async #settle(cause: BoxCause, change: BoxChange = {}): Promise<void> {
    await this.#enter(cause, change, (whole) => this.#committed.keep(whole));
  }

  /** `settle` where nobody waits for the commit. */
  async #note(cause: BoxCause, change: BoxChange = {}): Promise<void> {
    await this.#settle(cause, change).catch((problem: unknown) => {
      this.#log.error({ err: problem, cause }, 'a change of state could not be committed yet');
    });
  }

  async #fail(cause: BoxCause, error: unknown): Promise<void> {
    if (step(boxTable, this.state, cause) === null) return; // It never got into the state in which this could fail.
    await this.#note(cause, failure(toBoxRunError(error)));
  }

  /** Ends whatever may be left of the engine, and fails; where its end is not certain the box goes on counting. */
  async #endAs(cause: BoxCause, error: unknown): Promise<void> {
    const ended = await this.#deps.worker.halt();
    await this.#fail(ended ? cause : 'end-failed', error);
  }

  /** The one place from which the state is assigned; the quota follows it. */
  async #enter(cause: BoxCause, change: BoxChange, assign: (change: BoxChange) => Promise<void>): Promise<void> {
    const row = this.#row;
    const next = step(boxTable, row.state, cause);
    if (next === null) throw new BoxRunError('RUNTIME_ERROR', `box ${row.id}: ${cause} in state ${row.state}`);
    this.#log.info({ from: row.state, to: next, cause }, 'box changes state');
    const status = next === 'removing' ? row.status : publicStatus(next);
    try {
      if (next === 'removed') Object.assign(row, { state: next, status });
      else await assign({ ...change, state: next, status });
    } finally {
      const { quota } = this.#deps;
      if (!holdsQuota(row.state)) quota.release(row.id);
      else if (row.state === 'stuck') quota.adopt(row.id, row.cpu, row.memory_mb);
    }
  }

  async #stopNow(graceMs: number = stopGraceOf(this.#row)): Promise<void> {
    if (this.state !== 'stopping') await this.#transition('stop-asked');
    faultPoint('supervisor.stop.asked');
    try {
      await this.#deps.worker.stop(graceMs);
    } catch (error) {
      await this.#fail('end-failed', error);
      throw error;
    }
    faultPoint('supervisor.stop.ended');
    await this.#settle('stop-done', { stopped_at: timestamp() });
  }

  async #removeNow(graceMs: number = limits.removeGraceMs): Promise<void> {
    const { writer, worker, onRemoved } = this.#deps;
    if (this.state === 'removed') throw new BoxRunError('BOX_NOT_FOUND', `there is no box ${this.id}`);
    if (!this.#onlyRows) {
      if (this.state !== 'removing') await this.#transition('remove-asked');
      faultPoint('supervisor.remove.asked');
      try {
        await worker.remove(graceMs);
      } catch (error) {
        await this.#endAs('remove-failed', error);
        throw error;
      }
      this.#onlyRows = true;
      faultPoint('supervisor.remove.ended');
    } else {
      await this.#note('remove-asked'); // The row may be gone: a removal that was not answered may have been done.
    }
    try {
      await writer.request('removeBox', { boxId: this.id }, { resend: true });
    } catch (error) {
      await this.#fail('remove-failed', error);
      throw error;
    }
    faultPoint('supervisor.remove.rows-gone');
    await this.#transition('remove-done');
    onRemoved();
  }

  /**
   * Removes what a failed create has made. Where even that fails the row stays, in `error`, for somebody to look at.
   */
  async #rollBack(reason: unknown): Promise<void> {
    await this.#fail('remove-asked', reason); // Also while the writer is away: the engine must not stay.
    try {
      await this.#removeNow();
    } catch (error) {
      this.#log.error({ err: error }, 'removing what a failed create left did not work');
      this.#deps.onNameFreed();
      await this.#committed.keep({ name: null }).catch(() => undefined);
    }
  }

  /** The worker is gone: a new one takes the running engine over, as long as the budget lasts. */
  async #recover(reason: string): Promise<void> {
    const { worker } = this.#deps;
    if (this.state === 'ready') await this.#note('worker-died');
    while (this.state === 'recovering') {
      if (!this.#restarts.take()) {
        const message = `its worker failed ${limits.workerRestartsMax + 1} times in ${limits.restartWindowMs / 1000} s`;
        await this.#endAs('recovery-failed', new BoxRunError('RUNTIME_ERROR', message));
        return;
      }
      try {
        if (await worker.succeed(reason)) await this.#note('brought-up');
        else await this.#engineDied('the engine ended together with its worker');
      } catch (error) {
        this.#log.error({ err: error }, 'a new worker could not take the box over');
      }
    }
  }

  /** Whatever the engine left behind goes with it. */
  async #engineDied(reason: string): Promise<void> {
    await this.#endAs('engine-died', new BoxRunError('RUNTIME_ERROR', reason));
  }

  /** Of a command that resists its kill nothing may go on: the whole box ends. */
  async #endForCommand(reason: string): Promise<void> {
    await this.#note('stop-asked');
    await this.#endAs('kill-failed', new BoxRunError('TIMEOUT', reason));
  }

  /** For what comes uninvited: acts only on a box that was running until then, under the same lease. */
  #onTrouble(doing: string, act: () => Promise<void>): void {
    const { generation } = this.#row;
    this.#inTurn(async () => {
      if (this.state === 'ready' && this.#row.generation === generation) await act();
    }).catch((error: unknown) => {
      this.#log.error({ err: error }, `${doing} failed`);
    });
  }
}
