// A box in trouble: its worker lost, its engine dead, the supervisor restarted, the writer away. It ends where its
// owner can deal with it, and holds no more than it should.
import { describe, expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, settle } from '../../support/runs/unit.ts';
import { createBoxBench, noProgress } from './setup.ts';

const broken = () => Promise.reject(new BoxRunError('RUNTIME_ERROR', 'engine says no'));
const order = { cmd: ['x'], env: null, workdir: null, timeoutMs: null };

describe('a worker that is lost', () => {
  it('is followed by another, and the box goes on', async () => {
    const { box, worker, committed, requests } = createBoxBench();
    worker.onLost?.();
    await expect.poll(() => worker.calls).toEqual(['takeOver']);
    await eventually('the box is ready', () => committed()?.['state'] === 'ready' && requests.length === 2);
    expect(requests).toEqual(['updateBox recovering', 'updateBox ready']);
    await box.startExec(order);
  });

  it('meanwhile a command gets UNAVAILABLE, which may be tried again', async () => {
    const { box, worker } = createBoxBench();
    worker.on.takeOver = () => new Promise(() => undefined);
    worker.onLost?.();
    await eventually('it recovers', () => box.state === 'recovering');
    await expect(box.startExec(order)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await expect(box.cancelExec('exec_1')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('together with its engine leaves the box stopped with an error', async () => {
    const { worker, committed, freeCpus } = createBoxBench();
    worker.on.takeOver = () => Promise.resolve(false);
    worker.onLost?.();
    await eventually('it is stopped', () => committed()?.['state'] === 'stopped');
    expect(committed()).toMatchObject({ status: 'stopped', error_code: 'RUNTIME_ERROR' });
    expect(committed()?.['error_message']).toContain('engine');
    expect(freeCpus()).toBe(4);
  });

  it('again and again ends in error when the budget is used up, never round in a loop', async () => {
    const { worker, committed } = createBoxBench();
    worker.on.takeOver = broken;
    worker.onLost?.();
    await eventually('it has failed', () => committed()?.['state'] === 'failed');
    expect(worker.calls).toEqual([...Array.from({ length: limits.workerRestartsMax }, () => 'takeOver'), 'tryStop']);
    expect(committed()).toMatchObject({ status: 'error', error_code: 'RUNTIME_ERROR', name: 'web' });
  });

  it('of which each successor dies too uses up the same budget', async () => {
    const { worker, committed } = createBoxBench();
    for (let time = 0; time <= limits.workerRestartsMax; time++) {
      await eventually('it is ready', () => committed()?.['state'] === 'ready');
      worker.onLost?.();
      await eventually('it went on', () => worker.calls.length === time + 1);
    }
    await eventually('it has failed', () => committed()?.['state'] === 'failed');
  });

  it("while its box is being stopped is the stop's business", async () => {
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

describe('an engine that ends by itself', () => {
  it('leaves the box stopped, with the reason, its worker gone and its quota free', async () => {
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

  it('during a stop does not touch the engine that a start right behind it has brought up', async () => {
    const { box, worker, committed } = createBoxBench();
    worker.on.start = async () => {
      (box.row as { generation: number }).generation++; // As the new lease does.
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

describe('going on after a restart of the supervisor', () => {
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

  it('the box of a run is removed, whatever it did', async () => {
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

  it('a running box whose engine has ended meanwhile is stopped, with an error', async () => {
    const { worker, committed } = await resumed({ state: 'ready' }, { running: false });
    expect(worker.calls).toEqual(['tryStop']);
    expect(committed()).toMatchObject({ state: 'stopped', error_code: 'RUNTIME_ERROR' });
  });

  it('a running box without its worker gets another, and so does one that was recovering', async () => {
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

  it('a box that was being started ends in error, and nothing of it runs', async () => {
    const { worker, committed, freeCpus } = await resumed({ state: 'starting' });
    expect(worker.calls).toEqual(['tryStop']);
    expect(committed()).toMatchObject({ state: 'failed', status: 'error' });
    expect(freeCpus()).toBe(4);
  });

  it('a box that was not running has no worker any more', async () => {
    for (const state of ['stopped', 'failed'] as const) {
      const { worker, committed } = await resumed({ state }, { running: false });
      expect(worker.calls).toEqual(['release']);
      expect(committed()).toMatchObject({ state });
      expect((await resumed({ state })).worker.calls).toEqual([]);
    }
  });

  it('a request that comes at once waits for its turn', async () => {
    const { box, worker } = createBoxBench({ state: 'stopping' });
    const going = box.resume();
    await Promise.all([going, box.start(noProgress)]);
    expect(worker.calls).toEqual(['stop', 'start']);
  });
});

describe('a box whose engine cannot be ended for certain', () => {
  it('is in error and goes on counting, whatever it was doing', async () => {
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

  it('also when it counted for nothing before: a stopped one that cannot be removed', async () => {
    const { box, worker, freeCpus } = createBoxBench({ state: 'stopped', status: 'stopped' });
    worker.on.remove = worker.on.tryStop = broken;
    await expect(box.remove(false)).rejects.toThrow();
    expect(freeCpus()).toBe(0);
  });

  it('is stopped by a stop, started by a start, removed without force, and counts no longer than that', async () => {
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

  it('of a box that is being stopped anyway is no news', async () => {
    const { box, worker, committed } = createBoxBench();
    worker.on.stop = async () => {
      worker.onUnkillable?.('late');
    };
    await box.stop();
    await settle(10);
    expect(committed()).toMatchObject({ state: 'stopped' });
  });
});

describe('a writer that is away', () => {
  const away = new BoxRunError('UNAVAILABLE', 'the writer is not there');

  it('when a stop begins makes the stop fail, and the box runs on', async () => {
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

  it('when a start begins makes the start fail, takes no quota, and the box can be started afterwards', async () => {
    const { box, worker, failures, freeCpus } = createBoxBench({ state: 'stopped', status: 'stopped' });
    failures.set('updateBox', away);
    await expect(box.start(noProgress)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(worker.calls).toEqual([]);
    expect(freeCpus()).toBe(4);
    failures.clear();
    expect(await box.start(noProgress)).toMatchObject({ status: 'running' });
  });

  it('when a create ends still takes the engine away', async () => {
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

  it('when a start ends makes the start fail, and the box can be started afterwards', async () => {
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

  it('when something has changed is told of it as soon as it is back', async () => {
    const { box, worker, failures, committed } = createBoxBench();
    worker.on.stop = async () => {
      failures.set('updateBox', new BoxRunError('TIMEOUT', 'no answer'));
    };
    await expect(box.stop()).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(box.state).toBe('stopped');
    expect(committed()).toMatchObject({ state: 'stopping' });
    failures.clear();
    await eventually('the row says so too', () => committed()?.['state'] === 'stopped');
  });

  it('and commits late what was given up is told what is so', async () => {
    const { box, rows, failures, committed } = createBoxBench();
    failures.set('updateBox', new BoxRunError('TIMEOUT', 'no answer'));
    await expect(box.stop()).rejects.toMatchObject({ code: 'TIMEOUT' });
    rows.set(box.id, { ...committed(), state: 'stopping' });
    failures.clear();
    await eventually('the row says so too', () => committed()?.['state'] === 'ready');
  });

  it('when a worker is lost does not keep another one from taking over', async () => {
    const { box, worker, failures } = createBoxBench();
    failures.set('updateBox', away);
    worker.onLost?.();
    await eventually('it was taken over', () => worker.calls.includes('takeOver') && box.state === 'ready');
    expect(worker.calls).toEqual(['takeOver']);
    await box.startExec(order);
  });

  it('when a removal ends keeps the box, which can be removed afterwards', async () => {
    const { box, failures, committed } = createBoxBench({ state: 'stopped' });
    failures.set('removeBox', away);
    await expect(box.remove(false)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    failures.clear();
    await box.remove(false);
    expect(committed()).toBeUndefined();
  });
});
