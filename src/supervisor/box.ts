// One box: its state, its row, its worker. The only place that assigns a box's state; every change is committed before it is
// answered. Operations that change the box run one after the other; commands run beside them.
import { publicBox, type BoxRow } from '../shared/store/rows.ts';
import type { Box, Exec } from '../shared/api.ts';
import { timestamp } from '../shared/clock.ts';
import type { ExecOrder } from '../shared/contracts/worker.ts';
import type { BoxChange, WriterContract } from '../shared/contracts/writer.ts';
import { BoxRunError, errorText, toBoxRunError } from '../shared/errors.ts';
import { createInTurn } from '../shared/in-turn.ts';
import type { Link } from '../shared/ipc/link.ts';
import { boxTable, holdsQuota, publicStatus, type BoxCause, type BoxState } from '../shared/lifecycle/box.ts';
import { step } from '../shared/lifecycle/machine.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/log.ts';
import { createRestartWindow } from '../shared/restart-window.ts';
import type { BoxWorker } from './box-worker.ts';
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
  create(progress: ReportProgress): Promise<Box>;
  start(progress: ReportProgress): Promise<Box>;
  stop(): Promise<Box>;
  remove(force: boolean): Promise<void>;
  startExec(order: ExecOrder): Promise<Exec>;
  cancelExec(execId: string): Promise<Exec>;
  /** After a restart of the supervisor: goes on from the state in the row. */
  resume(): Promise<void>;
}

export function createBox(deps: BoxDeps, row: BoxRow): SupervisedBox {
  const { writer, quota, worker } = deps;
  const log = deps.log.child({ boxId: row.id });
  const restarts = createRestartWindow(limits.workerRestartsMax);
  const creating = new AbortController();
  const inTurn = createInTurn();

  async function transition(cause: BoxCause, change: BoxChange = {}): Promise<void> {
    const next = step(boxTable, row.state, cause);
    if (next === null) throw new BoxRunError('RUNTIME_ERROR', `box ${row.id}: ${cause} in state ${row.state}`);
    log.info({ from: row.state, to: next, cause }, 'box changes state');
    const status = next === 'removing' ? row.status : publicStatus(next);
    Object.assign(row, change, { state: next, status });
    if (!holdsQuota(next)) quota.release(row.id);
    if (next === 'removed') return;
    await writer.request('updateBox', { boxId: row.id, change: { ...change, state: next, status } }, { resend: true });
  }

  /** The state that follows on a failure; that it cannot be committed is logged, and does not hide the failure itself. */
  async function fail(cause: BoxCause, error: unknown): Promise<void> {
    await transition(cause, failure(toBoxRunError(error))).catch((problem: unknown) => {
      log.error({ err: problem, cause }, 'the state after a failure could not be committed');
    });
  }

  async function rollBack(error: BoxRunError): Promise<never> {
    log.warn({ err: error }, 'creating a box failed; it is removed');
    await removeNow().catch(async (cause: unknown) => {
      log.error({ err: cause }, 'removing what a failed create left did not work');
      // The row stays, in `error`, for somebody to look at; the name is free again.
      deps.onNameFreed();
      row.name = null;
      await writer.request('updateBox', { boxId: row.id, change: { name: null } }, { resend: true });
    }).catch(() => undefined);
    throw error;
  }

  async function create(progress: ReportProgress): Promise<Box> {
    try {
      const { engineId } = await worker.create(progress, creating.signal);
      await transition('brought-up', { boxlite_id: engineId, started_at: timestamp() });
      return publicBox(row);
    } catch (error) {
      return rollBack(toBoxRunError(error));
    }
  }

  async function start(progress: ReportProgress): Promise<Box> {
    if (row.state !== 'stopped' && row.state !== 'failed') throw alreadyRunning(row);
    quota.reserve(row.id, row.cpu, row.memory_mb);
    try {
      await transition('start-asked', { error_code: null, error_message: null });
      await worker.start(progress);
      await transition('brought-up', { started_at: timestamp(), stopped_at: null });
      return publicBox(row);
    } catch (error) {
      await worker.halt();
      await fail('start-failed', error);
      throw error;
    }
  }

  async function stop(): Promise<Box> {
    if (row.state !== 'ready' && row.state !== 'recovering') throw notRunning(row);
    await finishStop();
    return publicBox(row);
  }

  async function finishStop(): Promise<void> {
    try {
      if (row.state !== 'stopping') await transition('stop-asked');
      await worker.stop();
      await transition('stop-done', { stopped_at: timestamp() });
    } catch (error) {
      await fail('stop-failed', error);
      throw error;
    }
  }

  async function remove(force: boolean): Promise<void> {
    const running = holdsQuota(row.state) && row.state !== 'removing';
    if (running && !force) {
      throw new BoxRunError('BOX_ALREADY_RUNNING', `box ${row.name ?? row.id} is running`, {
        hint: 'stop it first, or remove it with force',
      });
    }
    await removeNow();
  }

  async function removeNow(): Promise<void> {
    if (row.state === 'removed') throw new BoxRunError('BOX_NOT_FOUND', `there is no box ${row.id}`);
    try {
      if (row.state !== 'removing') await transition('remove-asked');
      await worker.remove();
      await writer.request('removeBox', { boxId: row.id }, { resend: true, timeoutMs: limits.boxRemoveTimeoutMs });
      await transition('remove-done');
      deps.onRemoved();
    } catch (error) {
      await fail('remove-failed', error);
      throw error;
    }
  }

  /** The worker is gone: a new one takes the running engine over, as long as the budget lasts. */
  async function recover(reason: string): Promise<void> {
    if (row.state === 'ready') await transition('worker-died');
    while (row.state === 'recovering') {
      if (!restarts.take()) {
        await worker.abandon();
        const message = `its worker failed ${limits.workerRestartsMax + 1} times in ${limits.restartWindowMs / 1000} s`;
        await fail('recovery-failed', new BoxRunError('RUNTIME_ERROR', message));
        return;
      }
      try {
        if (await worker.succeed(reason)) await transition('brought-up');
        else await engineDied(`the engine ended together with its worker`);
      } catch (error) {
        log.error({ err: error }, 'a new worker could not take the box over');
      }
    }
  }

  async function engineDied(reason: string): Promise<void> {
    await worker.halt(); // Whatever the engine left behind goes with it.
    await fail('engine-died', new BoxRunError('RUNTIME_ERROR', reason));
  }

  async function resume(): Promise<void> {
    const found = worker.present;
    if (row.ephemeral || row.state === 'creating' || row.state === 'removing') {
      await removeNow();
    } else if (row.state === 'stopping') {
      await finishStop();
    } else if (row.state === 'ready' && found !== null) {
      if (!found.running) await engineDied('the engine ended while no supervisor was there');
    } else if (row.state === 'ready' || row.state === 'recovering') {
      await recover('worker exited');
    } else if (row.state === 'starting') {
      await worker.halt();
      const message = 'the server ended while the box was starting';
      await fail('start-failed', new BoxRunError('RUNTIME_ERROR', message));
    } else {
      await worker.abandon();
    }
  }

  worker.onLost = () => {
    inTurn(async () => {
      if (row.state === 'ready') await recover('worker exited');
    }).catch((error: unknown) => {
      log.error({ err: error }, 'recovering a box failed');
    });
  };
  worker.onEngineExit = (reason) => {
    inTurn(async () => {
      if (row.state === 'ready') await engineDied(reason);
    }).catch((error: unknown) => {
      log.error({ err: error }, 'noting the end of an engine failed');
    });
  };

  return {
    id: row.id,
    row,
    get state() {
      return row.state;
    },
    create: (progress) => inTurn(() => create(progress)),
    start: (progress) => inTurn(() => start(progress)),
    stop: () => inTurn(stop),
    remove(force) {
      if (force && row.state === 'creating') creating.abort();
      return inTurn(() => remove(force));
    },
    async startExec(order) {
      assertReady(row);
      return worker.exec(order);
    },
    async cancelExec(execId) {
      assertReady(row);
      return worker.cancelExec(execId);
    },
    resume: () => inTurn(resume),
  };
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
