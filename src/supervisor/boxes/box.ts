// One box: its operations, and how it goes on after trouble or a restart of the supervisor. Operations that change the
// box run one after the other; commands run beside them. Every change is committed before the client gets its answer.
import { publicBox, type BoxRow } from '../../shared/store/rows.ts';
import type { Box, BoxProcess, BoxStats, Exec, ListeningPort } from '../../shared/api.ts';
import { timestamp } from '../../shared/waiting/clock.ts';
import type { ExecOrder, PortWait, StreamGrant, StreamOperation } from '../../shared/contracts/worker.ts';
import type { BoxChange, WriterContract } from '../../shared/contracts/writer.ts';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { createInTurn } from '../../shared/waiting/in-turn.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { boxTable, publicStatus, type BoxState } from '../../shared/lifecycle/box.ts';
import { step } from '../../shared/lifecycle/machine.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { createRestartWindow } from '../../shared/process/restart-window.ts';
import { createStopwatch, type Stopwatch } from '../../shared/observe/stage-times.ts';
import {
  alreadyRunning,
  assertReady,
  diskIsFull,
  notRunning,
  startable,
  statsOf,
  stopGraceOf,
  stoppable,
} from './box-answers.ts';
import { createBoxEnding, type BoxEnding } from './box-ending.ts';
import { createCommittedRow, type CommittedRow } from './box-row.ts';
import { createBoxState, type BoxStateChanges } from './box-state.ts';
import { judgeBox, type BoxTrouble, type OutsideView } from './box-trouble.ts';
import type { BoxWorker, ReportProgress, TimedExec } from '../workers/box-worker.ts';
import type { Quota } from '../admission/quota.ts';

export interface BoxDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly quota: Quota;
  readonly log: Logger;
  readonly worker: BoxWorker;
  /** Called when the box and its row are gone. */
  readonly onRemoved: () => void;
  /** Called when the box stays, but gives up its name. */
  readonly onNameReleased: () => void;
  /**
   * A range of the host's user and group ids for this box alone. Null if the driver of the box needs none.
   * @throws RESOURCE_EXCEEDED
   */
  readonly claimIdBlock: () => number | null;
}

export interface SupervisedBox {
  readonly id: string;
  readonly row: Readonly<BoxRow>;
  readonly state: BoxState;
  /** Brings a new box up. Its row is committed already. If it fails, everything of the box is removed. */
  create(progress: ReportProgress, stopwatch?: Stopwatch): Promise<Box>;
  /** @throws BOX_ALREADY_RUNNING, RESOURCE_EXCEEDED, and the errors of the image and the engine */
  start(progress: ReportProgress, stopwatch?: Stopwatch): Promise<Box>;
  /**
   * @param graceMs how long the processes of the box have to end by themselves, in milliseconds. Without it, the box's
   *   own grace period counts
   * @throws BOX_NOT_RUNNING
   */
  stop(graceMs?: number): Promise<Box>;
  /**
   * Stops the box if it runs, and starts it. No other operation comes in between.
   * @param graceMs as for `stop`
   * @throws BOX_NOT_RUNNING when the box is being removed; the errors of `stop` and `start`
   */
  restart(graceMs: number | undefined, progress: ReportProgress, stopwatch?: Stopwatch): Promise<Box>;
  /**
   * @param force also removes a box that runs or is being created
   * @throws BOX_ALREADY_RUNNING without `force`; BOX_NOT_FOUND when it has been removed meanwhile
   */
  remove(force: boolean, graceMs?: number): Promise<void>;
  /** Commits another name or other labels. It does not wait for operations that are under way. @throws BOX_NOT_FOUND */
  changeDetails(change: Pick<BoxChange, 'name' | 'labels'>): Promise<void>;
  /** Resolves when all earlier operations on the box are done or have failed. */
  settled(): Promise<void>;
  /** @throws UNAVAILABLE, BOX_NOT_RUNNING, and the errors of the worker */
  startExec(order: ExecOrder): Promise<TimedExec>;
  /** @throws UNAVAILABLE, BOX_NOT_RUNNING, and the errors of the worker */
  cancelExec(execId: string): Promise<Exec>;
  /** @throws UNAVAILABLE, BOX_NOT_RUNNING, and the errors of the worker */
  signalExec(execId: string, signal: number): Promise<Exec>;
  /** @throws UNAVAILABLE, BOX_NOT_RUNNING, and the errors of the worker */
  openStream(operation: StreamOperation): Promise<StreamGrant>;
  /** @throws UNAVAILABLE, BOX_NOT_RUNNING, and the errors of the worker */
  stats(): Promise<BoxStats>;
  /** @throws UNAVAILABLE, BOX_NOT_RUNNING, and the errors of the worker */
  processes(): Promise<BoxProcess[]>;
  /** @throws UNAVAILABLE, BOX_NOT_RUNNING, and the errors of the worker */
  ports(wait: PortWait, signal: AbortSignal): Promise<ListeningPort[]>;
  /** @throws UNAVAILABLE, BOX_NOT_RUNNING, and the errors of the worker */
  signalProcess(pid: number, signal: number): Promise<void>;
  /** While the disk of the host is nearly full, the row of a running box carries a warning. */
  noteHostDisk(isFull: boolean): Promise<void>;
  /** Goes on from the state in the row, after a restart of the supervisor. */
  resume(): Promise<void>;
  /** How the box differs from its row. Null while it starts, stops, or is created or removed, or when all is well. */
  findTrouble(seen: OutsideView): Promise<BoxTrouble | null>;
  /**
   * Ends a trouble that `findTrouble` found. Does nothing if the box has changed since.
   * @throws the error that made the repair fail
   */
  repair(found: BoxTrouble): Promise<void>;
  /**
   * For a box whose row is gone: gives back its name, place, quota and worker. Whatever it leaves on the host then
   * belongs to no box, and reconciliation ends it.
   */
  release(): Promise<void>;
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
  readonly #state: BoxStateChanges;
  readonly #ending: BoxEnding;
  readonly #inTurn = createInTurn();
  /** Aborts a create or a start, so that a forced removal does not wait for it. */
  #bringingUp = new AbortController();

  constructor(deps: BoxDeps, row: BoxRow) {
    this.#deps = deps;
    this.#row = row;
    this.#log = deps.log.child({ boxId: row.id });
    const log = this.#log;
    const committed = createCommittedRow({ writer: deps.writer, log }, row);
    const state = createBoxState({ committed, quota: deps.quota, log }, row);
    this.#committed = committed;
    this.#state = state;
    this.#ending = createBoxEnding({ ...deps, committed, state, log }, row);
    deps.worker.onLost = () => {
      this.#onTrouble('recovering a box', () => this.#recover('worker exited'));
    };
    deps.worker.onEngineExit = (reason) => {
      this.#onTrouble('noting the end of an engine', () => this.#ending.endAfterEngineExit(reason));
    };
    deps.worker.onUnkillable = (reason) => {
      this.#onTrouble('stopping a box with a command that cannot be killed', () => this.#ending.endForCommand(reason));
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

  create(progress: ReportProgress, stopwatch = createStopwatch()): Promise<Box> {
    return this.#inTurn(async () => {
      try {
        const { engineId } = await this.#deps.worker.create(progress, this.#bringingUp.signal, stopwatch);
        const change = { boxlite_id: engineId, started_at: timestamp() };
        await stopwatch.time('commit', () => this.#state.transition('brought-up', change));
        return publicBox(this.#row);
      } catch (error) {
        this.#log.warn({ err: error }, 'creating a box failed; it is removed');
        await this.#ending.rollBack(error);
        throw error;
      }
    });
  }

  start(progress: ReportProgress, stopwatch = createStopwatch()): Promise<Box> {
    return this.#inTurn(() => this.#start(progress, stopwatch));
  }

  restart(graceMs: number | undefined, progress: ReportProgress, stopwatch = createStopwatch()): Promise<Box> {
    return this.#inTurn(async () => {
      if (stoppable.has(this.state)) {
        await stopwatch.time('stop', () => this.#ending.stop(graceMs ?? stopGraceOf(this.#row)));
        faultPoint('supervisor.restart.stopped');
      } else if (!startable.has(this.state)) {
        throw notRunning(this.row);
      }
      return this.#start(progress, stopwatch);
    });
  }

  async #start(progress: ReportProgress, stopwatch: Stopwatch): Promise<Box> {
    const { row } = this;
    if (!startable.has(row.state)) throw alreadyRunning(row);
    this.#deps.quota.reserve(row.id, row.cpu, row.memory_mb);
    // A box that an earlier version created has no id range yet.
    const idBlock = row.id_block ?? this.#deps.claimIdBlock();
    await this.#state.transition('start-asked', { error_code: null, error_message: null, id_block: idBlock });
    faultPoint('supervisor.start.asked');
    this.#bringingUp = new AbortController();
    try {
      await this.#deps.worker.start(progress, this.#bringingUp.signal, stopwatch);
      const change = { started_at: timestamp(), stopped_at: null };
      await stopwatch.time('commit', () => this.#state.transition('brought-up', change));
      return publicBox(row);
    } catch (error) {
      await this.#ending.endInTrouble('start-failed', error);
      throw error;
    }
  }

  stop(graceMs: number = stopGraceOf(this.#row)): Promise<Box> {
    return this.#inTurn(async () => {
      if (!stoppable.has(this.state)) throw notRunning(this.row);
      await this.#ending.stop(graceMs);
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
          hint: `boxrun rm -f ${row.name ?? row.id}`,
        });
      }
      await this.#ending.remove(graceMs);
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

  changeDetails(change: Pick<BoxChange, 'name' | 'labels'>): Promise<void> {
    return this.#committed.commit(change);
  }

  async stats(): Promise<BoxStats> {
    assertReady(this.row);
    return statsOf(this.row, await this.#deps.worker.stats());
  }

  async processes(): Promise<BoxProcess[]> {
    assertReady(this.row);
    return this.#deps.worker.processes();
  }

  async ports(wait: PortWait, signal: AbortSignal): Promise<ListeningPort[]> {
    assertReady(this.row);
    return this.#deps.worker.ports(wait, signal);
  }

  async signalProcess(pid: number, signal: number): Promise<void> {
    assertReady(this.row);
    await this.#deps.worker.signalProcess(pid, signal);
  }

  settled(): Promise<void> {
    return this.#inTurn(async () => undefined);
  }

  async noteHostDisk(isFull: boolean): Promise<void> {
    const { row } = this;
    const hasWarning = row.error_code === diskIsFull.error_code && row.error_message === diskIsFull.error_message;
    // Another error in the row is more important than the warning.
    if (hasWarning === isFull || row.state !== 'ready' || (isFull && row.error_code !== null)) return;
    const change = isFull ? diskIsFull : { error_code: null, error_message: null };
    await this.#committed.record(change).catch((problem: unknown) => {
      this.#log.error({ err: problem }, 'the disk warning of a box could not be committed yet');
    });
  }

  resume(): Promise<void> {
    return this.#inTurn(async () => {
      const { worker } = this.#deps;
      const found = await worker.adopt().catch((error: unknown) => this.#onHungWorker(error));
      if (found === 'stuck') return;
      if (this.state === 'creating') {
        const message = 'the server ended while the box was being created';
        await this.#ending.rollBack(new BoxRunError('RUNTIME_ERROR', message));
      } else if (this.row.ephemeral || this.state === 'removing') {
        await this.#ending.remove();
      } else if (this.state === 'stopping') {
        await this.#ending.stop();
      } else if (this.state === 'ready' && found !== null) {
        if (!found.running) await this.#ending.endAfterEngineExit('the engine ended while no supervisor was there');
      } else if (this.state === 'ready' || this.state === 'recovering') {
        await this.#recover('worker exited');
      } else if (this.state === 'starting') {
        const message = 'the server ended while the box was starting';
        await this.#ending.endInTrouble('start-failed', new BoxRunError('RUNTIME_ERROR', message));
      } else if (this.state === 'stuck') {
        if (await worker.tryStop()) await this.#state.recordOrLog('found-ended');
      } else if (found !== null) {
        await worker.release();
      }
    });
  }

  /**
   * The worker neither answers nor dies. The box becomes stuck until a client or reconciliation ends it. Null for a box
   * that is to be removed: its removal is tried all the same.
   */
  async #onHungWorker(error: unknown): Promise<'stuck' | null> {
    if (step(boxTable, this.state, 'end-failed') === null || this.state === 'removing' || this.row.ephemeral)
      return null;
    const reason = `its worker hangs, and cannot be killed: ${errorText(error)}`;
    await this.#state.recordFailure('end-failed', new BoxRunError('TIMEOUT', reason, { cause: error }));
    return 'stuck';
  }

  findTrouble(seen: OutsideView): Promise<BoxTrouble | null> {
    return judgeBox(this.#row, this.#deps.worker, seen);
  }

  repair({ kind, state, generation }: BoxTrouble): Promise<void> {
    return this.#inTurn(async () => {
      const { worker } = this.#deps;
      if (this.state !== state || this.#row.generation !== generation) return;
      if (kind === 'worker') return this.#recover('worker exited');
      if (kind === 'commands') return worker.release();
      if (state === 'ready')
        return this.#ending.endAfterEngineExit('the engine ended, and its worker did not report it');
      if (!(await worker.tryStop())) {
        throw new BoxRunError('RUNTIME_ERROR', `the engine of box ${this.id} cannot be ended`);
      }
      if (this.state === 'stuck') await this.#state.recordOrLog('found-ended');
    });
  }

  release(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.state !== 'removing') await this.#state.recordOrLog('remove-asked');
      await this.#deps.worker.release();
      await this.#state.transition('remove-done');
      this.#deps.onRemoved();
    });
  }

  /** The worker is gone. New workers try to take over the engine, up to limits.workerRestartsMax in the window. */
  async #recover(reason: string): Promise<void> {
    const { worker } = this.#deps;
    if (this.state === 'ready') await this.#state.recordOrLog('worker-died');
    while (this.state === 'recovering') {
      if (!this.#restarts.take()) {
        const message = `its worker failed ${limits.workerRestartsMax + 1} times in ${limits.restartWindowMs / 1000} s`;
        await this.#ending.endInTrouble('recovery-failed', new BoxRunError('RUNTIME_ERROR', message));
        return;
      }
      try {
        if (await worker.takeOver(reason)) await this.#state.recordOrLog('brought-up');
        else await this.#ending.endAfterEngineExit('the engine ended together with its worker');
      } catch (error) {
        this.#log.error({ err: error }, 'a new worker could not take the box over');
      }
    }
  }

  /**
   * Runs `act` in turn, after an event that no operation has caused. The event may be outdated by then, so `act` runs
   * only if the box was ready until now, under the same lease.
   */
  #onTrouble(doing: string, act: () => Promise<void>): void {
    const { generation } = this.#row;
    this.#inTurn(async () => {
      if (this.state === 'ready' && this.#row.generation === generation) await act();
    }).catch((error: unknown) => {
      this.#log.error({ err: error }, `${doing} failed`);
    });
  }
}
