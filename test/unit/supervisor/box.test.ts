// Tests one box of the supervisor against doubles of its worker and the writer: what each operation does to worker, row
// and quota, in which order, and what is left when it fails.
import { describe, expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { boxStates } from '../../../src/shared/lifecycle/box.ts';
import { controlledPromise, settle } from '../../support/runs/unit.ts';
import { createBoxBench, noProgress } from './setup.ts';

const broken = () => Promise.reject(new BoxRunError('RUNTIME_ERROR', 'engine says no'));
const order = { cmd: ['x'], env: null, workdir: null, timeoutMs: null };

describe('creating a box', () => {
  it('brings the box up, and answers when this is committed', async () => {
    const { box, worker, committed, freeCpus } = createBoxBench({ state: 'creating', status: 'creating' });
    expect(await box.create(noProgress)).toMatchObject({ status: 'running', boxlite_id: 'engine-1', name: 'web' });
    expect(committed()).toMatchObject({ state: 'ready', status: 'running', boxlite_id: 'engine-1' });
    expect(committed()?.['started_at']).not.toBeNull();
    expect(worker.calls).toEqual(['create']);
    expect(freeCpus()).toBe(0);
  });

  it('leaves no engine, no row and no quota when it fails, and says why', async () => {
    const { box, worker, committed, freeCpus, events } = createBoxBench({ state: 'creating', status: 'creating' });
    worker.on.create = () => Promise.reject(new BoxRunError('IMAGE_PULL_FAILED', 'no such image', { hint: 'check' }));
    await expect(box.create(noProgress)).rejects.toMatchObject({ code: 'IMAGE_PULL_FAILED', hint: 'check' });
    expect(worker.calls).toEqual(['create', 'remove']);
    expect(committed()).toBeUndefined();
    expect(events).toEqual(['removed']);
    expect(box.state).toBe('removed');
    expect(freeCpus()).toBe(4);
  });

  it('leaves the box in error, without its name and its quota, if the engine cannot be removed either', async () => {
    const { box, worker, committed, freeCpus, events } = createBoxBench({ state: 'creating', status: 'creating' });
    worker.on.create = broken;
    worker.on.remove = () => Promise.reject(new BoxRunError('TIMEOUT', 'still mounted'));
    await expect(box.create(noProgress)).rejects.toMatchObject({ message: 'engine says no' });
    expect(committed()).toMatchObject({ state: 'failed', status: 'error', name: null });
    expect(committed()?.['error_code']).not.toBeNull();
    expect(events).toEqual(['name released']);
    expect(freeCpus()).toBe(4);
    delete worker.on.remove;
    await box.remove(false);
    expect(committed()).toBeUndefined();
  });

  it('is canceled only by a forced removal', async () => {
    const { box, worker, committed } = createBoxBench({ state: 'creating', status: 'creating' });
    worker.on.create = (signal) =>
      new Promise((_, reject) => {
        signal?.addEventListener('abort', () => {
          reject(new BoxRunError('CANCELED', 'create was canceled'));
        });
      });
    const created = box.create(noProgress);
    created.catch(() => undefined);
    await settle();
    const removed = Promise.allSettled([box.remove(true)]);
    await expect(created).rejects.toMatchObject({ code: 'CANCELED' });
    expect((await removed)[0]).toMatchObject({ status: 'rejected', reason: { code: 'BOX_NOT_FOUND' } });
    expect(committed()).toBeUndefined();
  });
});

describe('when a box is stopped or started', () => {
  it('a stop ends the engine, frees the quota, and commits before and after it', async () => {
    const { box, worker, committed, requests, freeCpus } = createBoxBench();
    worker.on.stop = async () => {
      expect(committed()).toMatchObject({ state: 'stopping', status: 'running' });
      expect(freeCpus()).toBe(0);
    };
    expect(await box.stop()).toMatchObject({ status: 'stopped' });
    expect(requests).toEqual(['updateBox stopping', 'updateBox stopped']);
    expect(committed()?.['stopped_at']).not.toBeNull();
    expect(freeCpus()).toBe(4);
  });

  it('a start takes the quota first, clears an old error, and ends running', async () => {
    const { box, worker, committed, requests, freeCpus } = createBoxBench({
      state: 'failed',
      status: 'error',
      error_code: 'RUNTIME_ERROR',
      error_message: 'old',
      stopped_at: 'x',
    });
    worker.on.start = async () => {
      expect(committed()).toMatchObject({ state: 'starting', status: 'creating' });
      expect(freeCpus()).toBe(0);
    };
    expect(await box.start(noProgress)).toMatchObject({
      status: 'running',
      error_code: null,
      error_message: null,
      stopped_at: null,
    });
    expect(requests).toEqual(['updateBox starting', 'updateBox ready']);
    expect(freeCpus()).toBe(0);
  });

  it('a start without room is refused, and changes nothing', async () => {
    const { box, worker, quota, committed } = createBoxBench({ state: 'stopped', status: 'stopped' });
    quota.reserve('other', 1, 1);
    await expect(box.start(noProgress)).rejects.toMatchObject({ code: 'RESOURCE_EXCEEDED' });
    expect(worker.calls).toEqual([]);
    expect(committed()).toMatchObject({ state: 'stopped' });
  });

  it('a start that fails ends in error with its reason, frees the quota, and leaves nothing running', async () => {
    const { box, worker, committed, freeCpus } = createBoxBench({ state: 'stopped', status: 'stopped' });
    worker.on.start = broken;
    await expect(box.start(noProgress)).rejects.toMatchObject({ message: 'engine says no' });
    expect(worker.calls).toEqual(['start', 'tryStop']);
    expect(committed()).toMatchObject({
      state: 'failed',
      status: 'error',
      error_code: 'RUNTIME_ERROR',
      error_message: 'engine says no',
      name: 'web',
    });
    expect(freeCpus()).toBe(4);
  });

  it('a stop that fails ends in error with its reason, and keeps the quota', async () => {
    const { box, worker, committed, freeCpus } = createBoxBench();
    worker.on.stop = broken;
    await expect(box.stop()).rejects.toMatchObject({ message: 'engine says no' });
    expect(committed()).toMatchObject({ state: 'stuck', status: 'error', error_message: 'engine says no' });
    expect(freeCpus()).toBe(0);
  });

  it('a stop and a start can be repeated many times', async () => {
    const { box, committed } = createBoxBench();
    for (let time = 0; time < 20; time++) {
      await box.stop();
      await box.start(noProgress);
    }
    expect(committed()).toMatchObject({ state: 'ready' });
  });
});

describe('a box', () => {
  const legal: Record<string, { stop: boolean; start: boolean; remove: boolean; exec: boolean }> = {
    starting: { stop: false, start: false, remove: false, exec: false },
    creating: { stop: false, start: false, remove: false, exec: false },
    ready: { stop: true, start: false, remove: false, exec: true },
    recovering: { stop: true, start: false, remove: false, exec: false },
    stopping: { stop: false, start: false, remove: false, exec: false },
    stopped: { stop: false, start: true, remove: true, exec: false },
    failed: { stop: true, start: true, remove: true, exec: false },
    stuck: { stop: true, start: true, remove: true, exec: false },
    removing: { stop: false, start: false, remove: true, exec: false },
  };
  const codes = {
    stop: ['BOX_NOT_RUNNING'],
    start: ['BOX_ALREADY_RUNNING'],
    remove: ['BOX_ALREADY_RUNNING'],
    exec: ['BOX_NOT_RUNNING', 'UNAVAILABLE'],
  };

  for (const state of boxStates.filter((each) => each !== 'removed')) {
    for (const verb of ['stop', 'start', 'remove', 'exec'] as const) {
      const allowed = legal[state]?.[verb] ?? false;
      it(`${allowed ? 'accepts' : 'refuses, without a change,'} ${verb} in state ${state}`, async () => {
        const { box, worker, committed } = createBoxBench({ state });
        const before = committed();
        const act = {
          stop: () => box.stop(),
          start: () => box.start(noProgress),
          remove: () => box.remove(false),
          exec: () => box.startExec(order),
        };
        const [outcome] = await Promise.allSettled([act[verb]()]);
        expect(outcome?.status).toBe(allowed ? 'fulfilled' : 'rejected');
        if (outcome?.status !== 'rejected') return;
        expect(codes[verb]).toContain((outcome.reason as BoxRunError).code);
        expect(worker.calls).toEqual([]);
        expect(committed()).toEqual(before);
      });
    }
  }
});

describe('removing a box', () => {
  it('by force works from every state, and leaves no row and no quota', async () => {
    for (const state of boxStates.filter((each) => each !== 'removed')) {
      const { box, worker, committed, freeCpus, events } = createBoxBench({ state });
      await box.remove(true);
      expect(worker.calls, state).toEqual(['remove']);
      expect(committed(), state).toBeUndefined();
      expect(events, state).toEqual(['removed']);
      expect(freeCpus(), state).toBe(4);
    }
  });

  it('removes the engine before the row', async () => {
    const { box, worker, committed } = createBoxBench({ state: 'stopped' });
    worker.on.remove = async () => {
      expect(committed()).toMatchObject({ state: 'removing' });
    };
    await box.remove(false);
  });

  it('keeps the box in error when it fails, and can be tried again', async () => {
    const { box, worker, committed, events } = createBoxBench({ state: 'stopped', status: 'stopped' });
    worker.on.remove = broken;
    await expect(box.remove(false)).rejects.toMatchObject({ message: 'engine says no' });
    expect(committed()).toMatchObject({
      state: 'failed',
      status: 'error',
      name: 'web',
      error_message: 'engine says no',
    });
    expect(events).toEqual([]);
    delete worker.on.remove;
    await box.remove(false);
    expect(committed()).toBeUndefined();
  });

  it('happens once if two requests arrive together, and the second finds no box', async () => {
    const { box, worker } = createBoxBench({ state: 'stopped' });
    const [first, second] = await Promise.allSettled([box.remove(false), box.remove(false)]);
    expect(first?.status).toBe('fulfilled');
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'BOX_NOT_FOUND' } });
    expect(worker.calls).toEqual(['remove']);
  });
});

describe('operations on one box', () => {
  it('run one after the other, in the order of their requests', async () => {
    const { box, worker } = createBoxBench();
    const stopping = controlledPromise<undefined>();
    worker.on.stop = () => stopping.promise;
    const outcomes = Promise.allSettled([box.stop(), box.start(noProgress), box.stop(), box.stop()]);
    await settle();
    expect(worker.calls).toEqual(['stop']);
    stopping.resolve(undefined);
    expect((await outcomes).map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected']);
    expect(worker.calls).toEqual(['stop', 'start', 'stop']);
  });

  it('let commands run at the same time', async () => {
    const { box } = createBoxBench();
    const execs = await Promise.all([box.startExec(order), box.startExec(order), box.cancelExec('exec_1')]);
    expect(execs.map(({ id }) => id)).toEqual(['exec_1', 'exec_1', 'exec_1']);
  });
});
