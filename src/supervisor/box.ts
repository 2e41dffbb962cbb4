// One box: its state, its row, its worker. The only place that assigns a box's state; every change is committed before it is
// answered. Operations that change the box run one after the other; commands run beside them.
import { publicBox, type BoxRow } from '../shared/store/rows.ts';
import type { Box, Exec } from '../shared/api.ts';
import { timestamp } from '../shared/clock.ts';
import type { ExecOrder, StreamGrant, StreamOperation } from '../shared/contracts/worker.ts';
import type { BoxChange, WriterContract } from '../shared/contracts/writer.ts';
import { BoxRunError, errorText, toBoxRunError } from '../shared/errors.ts';
import { createInTurn } from '../shared/in-turn.ts';
import type { Link } from '../shared/ipc/link.ts';
import { boxTable, holdsQuota, publicStatus, type BoxCause, type BoxState } from '../shared/lifecycle/box.ts';
import { step } from '../shared/lifecycle/machine.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/log.ts';
import { createRestartWindow } from '../shared/restart-window.ts';
import { createStopwatch, type Stopwatch } from '../shared/stage-times.ts';
import type { BoxWorker, TimedExec } from './box-worker.ts';
import type { Quota } from './quota.ts';

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
}

export interface SupervisedBox {
  readonly id: string;
  readonly row: Readonly<BoxRow>;
  readonly state: BoxState;
  /** Brings a new box up; its row is committed already. On failure nothing of it is left. */
  create(progress: ReportProgress, watch?: Stopwatch): Promise<Box>;
  start(progress: ReportProgress, watch?: Stopwatch): Promise<Box>;
  stop(): Promise<Box>;
  remove(force: boolean): Promise<void>;
  /** Resolves when everything that was asked for so far is done or has failed. */
  settled(): Promise<void>;
  startExec(order: ExecOrder): Promise<TimedExec>;
  cancelExec(execId: string): Promise<Exec>;
  signalExec(execId: string, signal: number): Promise<Exec>;
  openStream(operation: StreamOperation): Promise<StreamGrant>;
  /** After a restart of the supervisor: goes on from the state in the row. */
  resume(): Promise<void>;
}

export function createBox(deps: BoxDeps, row: BoxRow): SupervisedBox {
  return new OwnedBox(deps, row);
}

class OwnedBox implements SupervisedBox {
  readonly #deps: BoxDeps;
  readonly #row: BoxRow;
  readonly #log: Logger;
  readonly #restarts = createRestartWindow(limits.workerRestartsMax);
  readonly #creating = new AbortController();
  readonly #inTurn = createInTurn();

  constructor(deps: BoxDeps, row: BoxRow) {
    this.#deps = deps;
    this.#row = row;
    this.#log = deps.log.child({ boxId: row.id });
    deps.worker.onLost = () => {
      this.#onTrouble('recovering a box', () => this.#recover('worker exited'));
    };
    deps.worker.onEngineExit = (reason) => {
      this.#onTrouble('noting the end of an engine', () => this.#engineDied(reason));
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
        const { engineId } = await this.#deps.worker.create(progress, this.#creating.signal, watch);
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
      if (row.state !== 'stopped' && row.state !== 'failed') throw alreadyRunning(row);
      this.#deps.quota.reserve(row.id, row.cpu, row.memory_mb);
      await this.#transition('start-asked', { error_code: null, error_message: null });
      try {
        await this.#deps.worker.start(progress, watch);
        const change = { started_at: timestamp(), stopped_at: null };
        await watch.time('commit', () => this.#transition('brought-up', change));
        return publicBox(row);
      } catch (error) {
        await this.#deps.worker.halt();
        await this.#fail('start-failed', error);
        throw error;
      }
    });
  }

  stop(): Promise<Box> {
    return this.#inTurn(async () => {
      if (this.state !== 'ready' && this.state !== 'recovering') throw notRunning(this.row);
      await this.#stopNow();
      return publicBox(this.#row);
    });
  }

  remove(force: boolean): Promise<void> {
    if (force && this.state === 'creating') this.#creating.abort();
    return this.#inTurn(async () => {
      const { row } = this;
      if (!force && holdsQuota(row.state) && row.state !== 'removing') {
        throw new BoxRunError('BOX_ALREADY_RUNNING', `box ${row.name ?? row.id} is running`, {
          hint: 'stop it first, or remove it with force',
        });
      }
      await this.#removeNow();
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

  resume(): Promise<void> {
    return this.#inTurn(async () => {
      const { worker } = this.#deps;
      const found = worker.present;
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
        await worker.halt();
        const message = 'the server ended while the box was starting';
        await this.#fail('start-failed', new BoxRunError('RUNTIME_ERROR', message));
      } else if (found !== null) {
        await worker.abandon();
      }
    });
  }

  /** To the next state; resolves when that is committed. What cannot be committed has not happened. */
  async #transition(cause: BoxCause, change: BoxChange = {}): Promise<void> {
    const row = this.#row;
    const before = { ...row };
    try {
      await this.#enter(cause, change);
    } catch (error) {
      for (const field of [...Object.keys(change), 'state', 'status'] as const) Object.assign(row, { [field]: before[field as keyof BoxRow] });
      throw error;
    } finally {
      if (!holdsQuota(row.state)) this.#deps.quota.release(row.id);
    }
  }

  /** To a state that is so whether it can be committed or not; where that fails the next supervisor finds out anew. */
  async #note(cause: BoxCause, change: BoxChange = {}): Promise<void> {
    await this.#enter(cause, change).catch((problem: unknown) => {
      this.#log.error({ err: problem, cause }, 'a change of state could not be committed');
    });
    if (!holdsQuota(this.state)) this.#deps.quota.release(this.id);
  }

  async #fail(cause: BoxCause, error: unknown): Promise<void> {
    if (step(boxTable, this.state, cause) === null) return; // It never got into the state in which this could fail.
    await this.#note(cause, failure(toBoxRunError(error)));
  }

  /** The one place that assigns the state. */
  async #enter(cause: BoxCause, change: BoxChange): Promise<void> {
    const row = this.#row;
    const next = step(boxTable, row.state, cause);
    if (next === null) throw new BoxRunError('RUNTIME_ERROR', `box ${row.id}: ${cause} in state ${row.state}`);
    this.#log.info({ from: row.state, to: next, cause }, 'box changes state');
    const status = next === 'removing' ? row.status : publicStatus(next);
    Object.assign(row, change, { state: next, status });
    if (next === 'removed') return;
    const committed = { boxId: row.id, change: { ...change, state: next, status } };
    await this.#deps.writer.request('updateBox', committed, { resend: true });
  }

  async #stopNow(): Promise<void> {
    try {
      if (this.state !== 'stopping') await this.#transition('stop-asked');
      await this.#deps.worker.stop();
      await this.#transition('stop-done', { stopped_at: timestamp() });
    } catch (error) {
      await this.#fail('stop-failed', error);
      throw error;
    }
  }

  async #removeNow(): Promise<void> {
    const { writer, worker, onRemoved } = this.#deps;
    if (this.state === 'removed') throw new BoxRunError('BOX_NOT_FOUND', `there is no box ${this.id}`);
    try {
      if (this.state !== 'removing') await this.#transition('remove-asked');
      await worker.remove();
      await writer.request('removeBox', { boxId: this.id }, { resend: true, timeoutMs: limits.boxRemoveTimeoutMs });
      await this.#transition('remove-done');
      onRemoved();
    } catch (error) {
      await this.#fail('remove-failed', error);
      throw error;
    }
  }

  /** Removes what a failed create has made. Where even that fails the row stays, in `error`, for somebody to look at. */
  async #rollBack(reason: unknown): Promise<void> {
    await this.#fail('remove-asked', reason); // Also while the writer is away: the engine must not stay.
    try {
      await this.#removeNow();
    } catch (error) {
      this.#log.error({ err: error }, 'removing what a failed create left did not work');
      this.#deps.onNameFreed();
      this.#row.name = null;
      const change = { boxId: this.id, change: { name: null } };
      await this.#deps.writer.request('updateBox', change, { resend: true }).catch(() => undefined);
    }
  }

  /** The worker is gone: a new one takes the running engine over, as long as the budget lasts. */
  async #recover(reason: string): Promise<void> {
    const { worker } = this.#deps;
    if (this.state === 'ready') await this.#note('worker-died');
    while (this.state === 'recovering') {
      if (!this.#restarts.take()) {
        await worker.abandon();
        const message = `its worker failed ${limits.workerRestartsMax + 1} times in ${limits.restartWindowMs / 1000} s`;
        await this.#fail('recovery-failed', new BoxRunError('RUNTIME_ERROR', message));
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

  async #engineDied(reason: string): Promise<void> {
    await this.#deps.worker.halt(); // Whatever the engine left behind goes with it.
    await this.#fail('engine-died', new BoxRunError('RUNTIME_ERROR', reason));
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

function failure(error: BoxRunError): BoxChange {
  return { error_code: error.code, error_message: errorText(error), stopped_at: timestamp() };
}

function assertReady(row: BoxRow): void {
  if (row.state === 'ready') return;
  if (row.state === 'recovering') {
    throw new BoxRunError('UNAVAILABLE', `box ${row.name ?? row.id} is being taken over by a new worker`);
  }
  throw notRunning(row);
}

function notRunning(row: BoxRow): BoxRunError {
  return new BoxRunError('BOX_NOT_RUNNING', `box ${row.name ?? row.id} is ${row.status}`, {
    hint: row.status === 'creating' ? 'wait until it runs' : 'start it first',
  });
}

function alreadyRunning(row: BoxRow): BoxRunError {
  return new BoxRunError('BOX_ALREADY_RUNNING', `box ${row.name ?? row.id} is ${row.status}`);
}
