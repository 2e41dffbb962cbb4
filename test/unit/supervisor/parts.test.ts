// Tests the smaller parts of the supervisor by themselves: the quota, the names, the first use of images, and the spare
// workers. No process is started.
import { describe, expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { createBoxRegistry } from '../../../src/supervisor/boxes/box-registry.ts';
import type { SupervisedBox } from '../../../src/supervisor/boxes/box.ts';
import { createImageGate } from '../../../src/supervisor/admission/image-gate.ts';
import { createQuota } from '../../../src/supervisor/admission/quota.ts';
import { createWarmPool } from '../../../src/supervisor/workers/warm-pool.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, quietLog, settle } from '../../support/runs/unit.ts';
import { boxRow } from '../writer/setup.ts';
import { createHandleDouble, type HandleDouble } from './setup.ts';

describe('quota', () => {
  it('allows boxes all that there is, and not more', () => {
    const quota = createQuota({ cpu: 4, memoryMb: 1000, workers: null });
    quota.reserve('a', 3, 400);
    quota.reserve('b', 1, 600);
    expect(() => {
      quota.reserve('c', 1, 0);
    }).toThrow(expect.objectContaining({ code: 'RESOURCE_EXCEEDED' }) as Error);
    expect(() => {
      quota.reserve('c', 0, 1);
    }).toThrow(expect.objectContaining({ code: 'RESOURCE_EXCEEDED' }) as Error);
    quota.release('b');
    quota.reserve('c', 1, 600);
  });

  it('takes nothing when it refuses', () => {
    const quota = createQuota({ cpu: 4, memoryMb: 1000, workers: null });
    expect(() => {
      quota.reserve('a', 4, 1001);
    }).toThrow();
    quota.reserve('b', 4, 1000);
  });

  it('names the amount that was asked, the amount in use, and the variable that raises the limit', () => {
    const quota = createQuota({ cpu: 2, memoryMb: 1000, workers: null });
    quota.reserve('a', 1, 300);
    expect(() => {
      quota.reserve('b', 2, 1);
    }).toThrow(
      expect.objectContaining({
        message: 'CPUs: 2 asked, 1 of 2 in use (BOXRUN_MAX_CPU raises the limit)',
      }) as Error,
    );
    expect(() => {
      quota.reserve('b', 1, 701);
    }).toThrow(
      expect.objectContaining({
        message: 'memory in MB: 701 asked, 300 of 1000 in use (BOXRUN_MAX_MEMORY_MB raises the limit)',
      }) as Error,
    );
  });

  it('counts what adopted boxes hold, even over the limit', () => {
    const quota = createQuota({ cpu: 2, memoryMb: 1000, workers: null });
    quota.adopt('a', 8, 4000);
    expect(() => {
      quota.reserve('b', 1, 1);
    }).toThrow();
    quota.release('a');
    quota.reserve('b', 2, 1000);
  });

  it('is released only once, and only if it was taken', () => {
    const quota = createQuota({ cpu: 2, memoryMb: 1000, workers: null });
    quota.reserve('a', 2, 1);
    quota.release('a');
    quota.release('a');
    quota.release('nobody');
    quota.reserve('b', 2, 1);
    expect(() => {
      quota.reserve('c', 1, 1);
    }).toThrow();
  });
});

describe('the quota of workers', () => {
  it('has one worker for each running box, and allows the rest as spare workers', () => {
    let released = 0;
    const quota = createQuota({ cpu: 99, memoryMb: 9999, workers: 2 }, () => {
      released += 1;
    });
    quota.reserve('a', 1, 1);
    expect(quota.spareWorkersMax()).toBe(1);
    quota.reserve('b', 1, 1);
    quota.reserve('b', 1, 1); // The same box needs no second worker.
    expect(() => {
      quota.reserve('c', 1, 1);
    }).toThrow(
      expect.objectContaining({
        code: 'RESOURCE_EXCEEDED',
        message: 'workers: 1 asked, 2 of 2 in use (--workers MIN:MAX raises the limit)',
      }) as Error,
    );
    quota.adopt('d', 1, 1);
    expect(quota.spareWorkersMax()).toBe(0);
    quota.release('a');
    quota.release('b');
    quota.release('b');
    expect([quota.spareWorkersMax(), released]).toEqual([1, 2]);
  });
});

describe('the registry', () => {
  const box = (id: string, name: string | null) => ({ id, row: boxRow({ id, name }) }) as unknown as SupervisedBox;

  it('finds boxes by id and by name', () => {
    const registry = createBoxRegistry(10);
    const web = box('box_1', 'web');
    registry.add(web);
    registry.add(box('box_2', null));
    expect(registry.find('box_1')).toBe(web);
    expect(registry.find('web')).toBe(web);
    expect(registry.all()).toHaveLength(2);
    for (const key of ['', 'nobody', 'WEB', '__proto__']) {
      expect(() => registry.find(key)).toThrow(expect.objectContaining({ code: 'BOX_NOT_FOUND' }) as Error);
    }
  });

  it('gives a name to one box at a time, from its claim until the box is removed', () => {
    const registry = createBoxRegistry(10);
    registry.claimName('web', 'box_1');
    registry.claimName('web', 'box_1');
    expect(() => {
      registry.claimName('web', 'box_2');
    }).toThrow(expect.objectContaining({ code: 'NAME_ALREADY_EXISTS' }) as Error);
    registry.releaseName('web', 'box_2'); // The name belongs to the other box.
    expect(() => {
      registry.claimName('web', 'box_2');
    }).toThrow();
    const web = box('box_1', 'web');
    registry.add(web);
    registry.delete(web);
    registry.claimName('web', 'box_2');
    expect(() => registry.find('web')).toThrow();
  });
});

describe('the first use of an image', () => {
  it('is exclusive, and later uses run at the same time', async () => {
    const gate = createImageGate();
    const pulls: string[] = [];
    const pull = controlledPromise<undefined>();
    const work = (name: string) => async () => {
      pulls.push(name);
      await pull.promise;
      return name;
    };
    const all = Promise.all(['a', 'b', 'c'].map((name) => gate.pass('image', work(name))));
    await settle();
    expect(pulls).toEqual(['a']);
    pull.resolve(undefined);
    expect(await all).toEqual(['a', 'b', 'c']);
    const later = controlledPromise<undefined>();
    const both = [gate.pass('image', () => later.promise), gate.pass('image', async () => 'beside it')];
    expect(await both[1]).toBe('beside it');
    later.resolve(undefined);
    await both[0];
  });

  it('fails for all boxes that waited if the pull fails, and a later one pulls again', async () => {
    const gate = createImageGate();
    const pull = controlledPromise<string>();
    const pulls: number[] = [];
    const create = (index: number) =>
      gate.pass('image', () => {
        pulls.push(index);
        return pull.promise;
      });
    const all = Promise.allSettled([0, 1, 2, 3].map(create));
    await settle();
    pull.reject(new BoxRunError('IMAGE_PULL_FAILED', 'the registry did not answer in time'));
    for (const outcome of await all)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'IMAGE_PULL_FAILED' } });
    expect(pulls).toEqual([0]);
    expect(await gate.pass('image', async () => 'there')).toBe('there');
  });

  it('is left to the next box if the client of the first cancels it', async () => {
    const gate = createImageGate();
    const pull = controlledPromise<string>();
    const first = gate.pass('image', () => pull.promise);
    const second = gate.pass('image', async () => 'there');
    pull.reject(new BoxRunError('CANCELED', 'the client left'));
    await expect(first).rejects.toMatchObject({ code: 'CANCELED' });
    expect(await second).toBe('there');
  });

  it('fails for its box alone if the pull succeeded, and the next box tries', async () => {
    const gate = createImageGate();
    const running = { now: 0, most: 0 };
    const attempts: number[] = [];
    const work = (index: number) => async () => {
      running.most = Math.max(running.most, ++running.now);
      attempts.push(index);
      await settle(1);
      running.now--;
      if (index < 2) throw new Error(`box ${index} failed`);
      return index;
    };
    const outcomes = await Promise.allSettled([0, 1, 2].map((index) => gate.pass('image', work(index))));
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled']);
    expect(attempts).toEqual([0, 1, 2]);
    expect(running.most).toBe(1);
  });

  it('does not wait for another image', async () => {
    const gate = createImageGate();
    void gate.pass('slow', () => new Promise(() => undefined));
    expect(await gate.pass('quick', async () => 1)).toBe(1);
  });
});

describe('spare workers', () => {
  function createPool(size: number, options: { readonly waitMs?: number } = {}) {
    const started: HandleDouble[] = [];
    const state = { fail: false, inProgress: 0, most: 0 };
    const pool = createWarmPool({
      ...options,
      size: () => size,
      log: quietLog,
      async start() {
        state.most = Math.max(state.most, ++state.inProgress);
        await settle(1);
        state.inProgress--;
        if (state.fail) throw new Error('does not come up');
        const handle = createHandleDouble({}, `wrk_${started.length}`);
        started.push(handle);
        return handle;
      },
    });
    return { pool, started, state };
  }

  it('are as many as the size says, and start one at a time', async () => {
    const { pool, started, state } = createPool(3);
    pool.fill();
    pool.fill();
    await eventually('all are there', () => started.length === 3);
    await settle(10);
    expect(started).toHaveLength(3);
    expect(state.most).toBe(1);
  });

  it('are stopped when the size has become smaller while they started', async () => {
    let wanted = 2;
    const coming = controlledPromise<HandleDouble>();
    const pool = createWarmPool({ size: () => wanted, log: quietLog, start: () => coming.promise });
    pool.fill();
    wanted = 0;
    const spare = createHandleDouble({}, 'wrk_late');
    coming.resolve(spare);
    await spare.gone;
    await pool.close();
  });

  it('are taken once each, and replaced', async () => {
    const { pool, started } = createPool(2);
    pool.fill();
    await eventually('two are there', () => started.length === 2);
    const taken = await Promise.all([pool.take(), pool.take()]);
    expect(new Set(taken).size).toBe(2);
    await eventually('two more are there', () => started.length === 4);
  });

  it('are not given out after they died, and are replaced', async () => {
    const { pool, started } = createPool(1);
    pool.fill();
    await eventually('one is there', () => started.length === 1);
    started[0]?.die();
    await settle();
    const taken = await pool.take();
    expect(taken).not.toBe(started[0]);
    expect(taken.peer.isOpen).toBe(true);
    await eventually('there is a spare again', () => started.length === 3);
  });

  it('start again after all starts failed for a while', async () => {
    const { pool, started, state } = createPool(2);
    state.fail = true;
    pool.fill();
    await settle(10);
    await expect(pool.take()).rejects.toThrow('does not come up');
    state.fail = false;
    await pool.take();
    await eventually('there are two spares', () => started.length === 3);
  });

  it('begin to start when no other box is starting', async () => {
    const { pool, started } = createPool(1);
    let isUp: () => void = () => undefined;
    const coming = pool.holdBackSpares(async () => {
      await pool.take();
      await new Promise<void>((resolve) => {
        isUp = resolve;
      });
    });
    await settle(20);
    expect(started).toHaveLength(1);
    isUp();
    await coming;
    await eventually('there is a spare', () => started.length === 2);
  });

  it('start after a while even if boxes are starting all the time', async () => {
    const { pool, started } = createPool(1, { waitMs: 100 });
    void pool.holdBackSpares(() => new Promise(() => undefined));
    pool.fill();
    await settle(20);
    expect(started).toHaveLength(0);
    await eventually('there is a spare', () => started.length === 1);
  });

  it('do not exist if the size is 0, and each worker is started when it is needed', async () => {
    const { pool, started } = createPool(0);
    pool.fill();
    await settle(10);
    expect(started).toHaveLength(0);
    await pool.take();
    await settle(10);
    expect(started).toHaveLength(1);
  });

  it('of an earlier supervisor are taken first', async () => {
    const { pool, started } = createPool(1);
    const adopted = createHandleDouble({}, 'wrk_old');
    pool.adopt(adopted);
    expect(await pool.take()).toBe(adopted);
    await eventually('it is replaced', () => started.length === 1);
  });

  it('are all stopped when the pool closes, even one that was just starting', async () => {
    const ready = createHandleDouble({}, 'wrk_ready');
    const late = createHandleDouble({}, 'wrk_late');
    const coming = controlledPromise<HandleDouble>();
    const pool = createWarmPool({ size: () => 2, log: quietLog, start: () => coming.promise });
    pool.adopt(ready);
    pool.fill();
    let isClosed = false;
    const closed = pool.close().then(() => {
      isClosed = true;
    });
    await settle();
    expect(ready.events).toEqual(['stopped']);
    expect(isClosed).toBe(false);
    coming.resolve(late);
    await closed;
    expect(late.events).toEqual(['stopped']);
  });
});
