// Tests one box against doubles of its worker and the writer, in trouble: the worker is lost, the engine ends, the
// supervisor restarts, or the writer does not answer. The box ends in a state that its owner can act on, and it holds
// no quota that it does not use.
import { describe, expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, settle } from '../../support/runs/unit.ts';
import { createBoxBench, noProgress } from './setup.ts';

const broken = () => Promise.reject(new BoxRunError('RUNTIME_ERROR', 'engine says no'));
const order = { cmd: ['x'], env: null, workdir: null, timeoutMs: null };

describe('a box whose worker is lost', () => {
  it('gets another worker and becomes ready again', async () => {
    const { box, worker, committed, requests } = createBoxBench();
    worker.onLost?.();
    await expect.poll(() => worker.calls).toEqual(['takeOver']);
    await eventually('the box is ready', () => committed()?.['state'] === 'ready' && requests.length === 2);
    expect(requests).toEqual(['updateBox recovering', 'updateBox ready']);
    await box.startExec(order);
  });

  it('refuses commands with UNAVAILABLE until the next worker has taken over', async () => {
    const { box, worker } = createBoxBench();
    worker.on.takeOver = () => new Promise(() => undefined);
    worker.onLost?.();
    await eventually('it recovers', () => box.state === 'recovering');
    await expect(box.startExec(order)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await expect(box.cancelExec('exec_1')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('ends stopped with an error if its engine is gone too', async () => {
    const { worker, committed, freeCpus } = createBoxBench();
    worker.on.takeOver = () => Promise.resolve(false);
    worker.onLost?.();
    await eventually('it is stopped', () => committed()?.['state'] === 'stopped');
    expect(committed()).toMatchObject({ status: 'stopped', error_code: 'RUNTIME_ERROR' });
    expect(committed()?.['error_message']).toContain('engine');
    expect(freeCpus()).toBe(4);
  });

  it('ends in error when the restarts are used up', async () => {
    const { worker, committed } = createBoxBench();
    worker.on.takeOver = broken;
    worker.onLost?.();
    await eventually('it has failed', () => committed()?.['state'] === 'failed');
    expect(worker.calls).toEqual([...Array.from({ length: limits.workerRestartsMax }, () => 'takeOver'), 'tryStop']);
    expect(committed()).toMatchObject({ status: 'error', error_code: 'RUNTIME_ERROR', name: 'web' });
  });

  it('counts each lost successor against the same restarts', async () => {
    const { worker, committed } = createBoxBench();
    for (let time = 0; time <= limits.workerRestartsMax; time++) {
      await eventually('it is ready', () => committed()?.['state'] === 'ready');
      worker.onLost?.();
      await eventually('another worker has taken over', () => worker.calls.length === time + 1);
    }
    await eventually('it has failed', () => committed()?.['state'] === 'failed');
  });

  it('leaves the loss to a stop that is in progress', async () => {
    const { box, worker, committed } = createBoxBench();
    const stopping = controlledPromise<undefined>();
    worker.on.stop = () => stopping.promise;
    const stopped = box.stop();
    await settle();
    worker.onLost?.();
    stopping.resolve(undefined);
    await stopped;
    await settle(10);
    expect(worker.calls).toEqual(['stop']);
    expect(committed()).toMatchObject({ state: 'stopped' });
  });
});

describe('a box whose engine ends by itself', () => {
  it('is stopped with the reason, and its worker and its quota are released', async () => {
    const { worker, committed, freeCpus } = createBoxBench();
    worker.onEngineExit?.('out of memory');
    await eventually('it is stopped', () => committed()?.['state'] === 'stopped');
    expect(worker.calls).toEqual(['tryStop']);
    expect(committed()).toMatchObject({
      status: 'stopped',
      error_code: 'RUNTIME_ERROR',
      error_message: 'out of memory',
    });
    expect(freeCpus()).toBe(4);
  });

  it('can be started again', async () => {
    const { box, worker, committed } = createBoxBench();
    worker.onEngineExit?.('out of memory');
    await eventually('it is stopped', () => committed()?.['state'] === 'stopped');
    expect(await box.start(noProgress)).toMatchObject({ status: 'running', error_code: null });
  });

  it('keeps the engine that a later start has brought up, if the old engine ends during the stop', async () => {
    const { box, worker, committed } = createBoxBench();
    worker.on.start = async () => {
      (box.row as { generation: number }).generation++; // The real worker changes the generation when it opens a lease.
    };
    const stopped = box.stop();
    const started = box.start(noProgress);
    worker.onEngineExit?.('it went by itself');
    worker.onLost?.();
    await Promise.all([stopped, started]);
    await settle(10);
    expect(worker.calls).toEqual(['stop', 'start']);
    expect(committed()).toMatchObject({ state: 'ready' });
  });
});

describe('after a restart of the supervisor', () => {
  const resumed = async (...bench: Parameters<typeof createBoxBench>) => {
    const made = createBoxBench(...bench);
    await made.box.resume();
    return made;
  };

  it('a box that was being created or removed is removed', async () => {
    for (const state of ['creating', 'removing'] as const) {
      const { worker, committed, freeCpus } = await resumed({ state });
      expect(worker.calls).toEqual(['remove']);
      expect(committed()).toBeUndefined();
      expect(freeCpus()).toBe(4);
    }
  });

  it('a box that was being created and cannot be removed stays in error without its name', async () => {
    const bench = createBoxBench({ state: 'creating' });
    bench.worker.on.remove = broken;
    await bench.box.resume().catch(() => undefined);
    expect(bench.committed()).toMatchObject({ state: 'failed', status: 'error', name: null });
    expect(bench.events).toEqual(['name released']);
  });

  it('the box of a run is removed in every state', async () => {
    for (const state of ['ready', 'stopped', 'failed', 'recovering', 'creating'] as const) {
      const { committed } = await resumed({ state, ephemeral: true }, { running: true });
      expect(committed(), state).toBeUndefined();
    }
  });

  it('a running box with its worker is left alone', async () => {
    const { worker, requests } = await resumed({ state: 'ready' }, { running: true });
    expect(worker.calls).toEqual([]);
    expect(requests).toEqual([]);
  });

  it('a running box whose engine has ended is stopped with an error', async () => {
    const { worker, committed } = await resumed({ state: 'ready' }, { running: false });
    expect(worker.calls).toEqual(['tryStop']);
    expect(committed()).toMatchObject({ state: 'stopped', error_code: 'RUNTIME_ERROR' });
  });

  it('a running or recovering box without its worker gets another worker', async () => {
    for (const state of ['ready', 'recovering'] as const) {
      const { worker, committed } = await resumed({ state });
      expect(worker.calls).toEqual(['takeOver']);
      expect(committed()).toMatchObject({ state: 'ready' });
    }
  });

  it('a box that was being stopped is stopped', async () => {
    const { worker, committed } = await resumed({ state: 'stopping' });
    expect(worker.calls).toEqual(['stop']);
    expect(committed()).toMatchObject({ state: 'stopped' });
  });

  it('a box that was being started ends in error, and its engine is stopped', async () => {
    const { worker, committed, freeCpus } = await resumed({ state: 'starting' });
    expect(worker.calls).toEqual(['tryStop']);
    expect(committed()).toMatchObject({ state: 'failed', status: 'error' });
    expect(freeCpus()).toBe(4);
  });

  it('a stopped or failed box releases its worker', async () => {
    for (const state of ['stopped', 'failed'] as const) {
      const { worker, committed } = await resumed({ state }, { running: false });
      expect(worker.calls).toEqual(['release']);
      expect(committed()).toMatchObject({ state });
      expect((await resumed({ state })).worker.calls).toEqual([]);
    }
  });

  it('a request that arrives during recovery waits for its turn', async () => {
    const { box, worker } = createBoxBench({ state: 'stopping' });
    const resuming = box.resume();
    await Promise.all([resuming, box.start(noProgress)]);
    expect(worker.calls).toEqual(['stop', 'start']);
  });
});

describe('a box of which the supervisor does not know whether its engine has ended (state stuck)', () => {
  it('is in error and keeps its quota after every operation', async () => {
    for (const doing of ['stop', 'start', 'remove', 'recovery', 'end of the engine'] as const) {
      const { box, worker, committed, freeCpus } = createBoxBench(
        doing === 'start' ? { state: 'stopped', status: 'stopped' } : {},
      );
      worker.on.takeOver = broken;
      worker.on.stop = worker.on.start = worker.on.remove = worker.on.tryStop = broken;
      if (doing === 'stop') await expect(box.stop()).rejects.toThrow();
      if (doing === 'start') await expect(box.start(noProgress)).rejects.toThrow();
      if (doing === 'remove') await expect(box.remove(true)).rejects.toThrow();
      if (doing === 'recovery') worker.onLost?.();
      if (doing === 'end of the engine') worker.onEngineExit?.('gone');
      await eventually(doing, () => committed()?.['state'] === 'stuck');
      expect(committed(), doing).toMatchObject({ status: 'error', name: 'web' });
      expect(freeCpus(), doing).toBe(0);
    }
  });

  it('takes its quota again if it was stopped and cannot be removed', async () => {
    const { box, worker, freeCpus } = createBoxBench({ state: 'stopped', status: 'stopped' });
    worker.on.remove = worker.on.tryStop = broken;
    await expect(box.remove(false)).rejects.toThrow();
    expect(freeCpus()).toBe(0);
  });

  it('can be stopped, started or removed without force, and then has the quota of its new state', async () => {
    const stuck = () =>
      createBoxBench({ state: 'stuck', status: 'error', error_code: 'TIMEOUT', error_message: 'hangs' });
    const stopped = stuck();
    expect(await stopped.box.stop()).toMatchObject({ status: 'stopped', error_message: 'hangs' });
    expect(stopped.freeCpus()).toBe(4);
    const started = stuck();
    expect(await started.box.start(noProgress)).toMatchObject({ status: 'running', error_message: null });
    expect(started.freeCpus()).toBe(0);
    const removed = stuck();
    await removed.box.remove(false);
    expect(removed.committed()).toBeUndefined();
    expect(removed.freeCpus()).toBe(4);
  });

  it('is tried again by the next supervisor', async () => {
    const ended = createBoxBench({ state: 'stuck', status: 'error' });
    await ended.box.resume();
    expect(ended.committed()).toMatchObject({ state: 'failed', status: 'error' });
    expect(ended.freeCpus()).toBe(4);
    const still = createBoxBench({ state: 'stuck', status: 'error' });
    still.worker.on.tryStop = broken;
    await still.box.resume();
    expect(still.committed()).toMatchObject({ state: 'stuck' });
    expect(still.freeCpus()).toBe(0);
  });
});

describe('a command that cannot be killed', () => {
  it('stops its box and sets it to error, with the reason', async () => {
    const { worker, committed, requests, freeCpus } = createBoxBench();
    worker.onUnkillable?.('command exec_1 could not be killed');
    await eventually('it is in error', () => committed()?.['state'] === 'failed');
    expect(worker.calls).toEqual(['tryStop']);
    expect(requests).toEqual(['updateBox stopping', 'updateBox failed']);
    expect(committed()).toMatchObject({
      status: 'error',
      error_code: 'TIMEOUT',
      error_message: 'command exec_1 could not be killed',
    });
    expect(freeCpus()).toBe(4);
  });

  it('changes nothing if its box is being stopped anyway', async () => {
    const { box, worker, committed } = createBoxBench();
    worker.on.stop = async () => {
      worker.onUnkillable?.('late');
    };
    await box.stop();
    await settle(10);
    expect(committed()).toMatchObject({ state: 'stopped' });
  });
});

describe('while the writer does not answer', () => {
  const away = new BoxRunError('UNAVAILABLE', 'the writer is not there');

  it('a stop fails at its beginning, and the box runs on', async () => {
    const { box, worker, failures, freeCpus, committed } = createBoxBench();
    failures.set('updateBox', away);
    await expect(box.stop()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    failures.clear();
    expect(worker.calls).toEqual([]);
    await box.startExec(order);
    expect(freeCpus()).toBe(0);
    await box.stop();
    expect(committed()).toMatchObject({ state: 'stopped' });
  });

  it('a start fails at its beginning, takes no quota, and can be tried again later', async () => {
    const { box, worker, failures, freeCpus } = createBoxBench({ state: 'stopped', status: 'stopped' });
    failures.set('updateBox', away);
    await expect(box.start(noProgress)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(worker.calls).toEqual([]);
    expect(freeCpus()).toBe(4);
    failures.clear();
    expect(await box.start(noProgress)).toMatchObject({ status: 'running' });
  });

  it('a create fails at its end, and the engine is removed', async () => {
    const { box, worker, failures, freeCpus, events } = createBoxBench({ state: 'creating', status: 'creating' });
    worker.on.create = async () => {
      failures.set('updateBox', away);
      failures.set('removeBox', away);
    };
    await expect(box.create(noProgress)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(worker.calls).toEqual(['create', 'remove']);
    expect(box.state).toBe('failed');
    expect(events).toEqual(['name released']);
    expect(freeCpus()).toBe(4);
  });

  it('a start fails at its end, and can be tried again later', async () => {
    const { box, worker, failures, committed } = createBoxBench({ state: 'stopped', status: 'stopped' });
    worker.on.start = async () => {
      failures.set('updateBox', away);
    };
    await expect(box.start(noProgress)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    failures.clear();
    delete worker.on.start;
    expect(await box.start(noProgress)).toMatchObject({ status: 'running' });
    expect(committed()).toMatchObject({ state: 'ready' });
  });

  it('a stop changes the box, and the writer gets the new state as soon as it answers again', async () => {
    const { box, worker, failures, committed } = createBoxBench();
    worker.on.stop = async () => {
      failures.set('updateBox', new BoxRunError('TIMEOUT', 'no answer'));
    };
    await expect(box.stop()).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(box.state).toBe('stopped');
    expect(committed()).toMatchObject({ state: 'stopping' });
    failures.clear();
    await eventually('the row has the same state', () => committed()?.['state'] === 'stopped');
  });

  it('the supervisor corrects the row if the writer commits the state of a stop after the supervisor gave the stop up', async () => {
    const { box, rows, failures, committed } = createBoxBench();
    failures.set('updateBox', new BoxRunError('TIMEOUT', 'no answer'));
    await expect(box.stop()).rejects.toMatchObject({ code: 'TIMEOUT' });
    rows.set(box.id, { ...committed(), state: 'stopping' });
    failures.clear();
    await eventually('the row has the same state', () => committed()?.['state'] === 'ready');
  });

  it('another worker takes over from a lost one', async () => {
    const { box, worker, failures } = createBoxBench();
    failures.set('updateBox', away);
    worker.onLost?.();
    await eventually('it was taken over', () => worker.calls.includes('takeOver') && box.state === 'ready');
    expect(worker.calls).toEqual(['takeOver']);
    await box.startExec(order);
  });

  it('a removal fails at its end, keeps the box, and can be tried again later', async () => {
    const { box, failures, committed } = createBoxBench({ state: 'stopped' });
    failures.set('removeBox', away);
    await expect(box.remove(false)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    failures.clear();
    await box.remove(false);
    expect(committed()).toBeUndefined();
  });
});
