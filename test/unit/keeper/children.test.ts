// Tests the children of the keeper against doubles. They are started again when they end, a limited number of times,
// and all are stopped when the keeper ends.
import { describe, expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { keepChild, type KeptChild, type StartChild } from '../../../src/keeper/children.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, quietLog, settle } from '../../support/runs/unit.ts';

interface ChildDouble {
  readonly number: number;
  die(reason: string): void;
  stops: number;
}

interface Bench {
  readonly kept: KeptChild;
  readonly started: ChildDouble[];
  readonly givenUp: string[];
  /** Called at each start before the child is there. If it rejects, the start fails. */
  onStart: (number: number) => Promise<void>;
}

function createBench(): Bench {
  const started: ChildDouble[] = [];
  const givenUp: string[] = [];
  let starts = 0;
  const bench = { onStart: async (_number: number): Promise<void> => undefined };
  const startChild: StartChild = async () => {
    const number = ++starts;
    await bench.onStart(number);
    const gone = controlledPromise<string>();
    const child: ChildDouble = { number, die: gone.resolve, stops: 0 };
    started.push(child);
    return {
      facts: { number },
      gone: gone.promise,
      async stop() {
        child.stops++;
        gone.resolve('stopped');
      },
    };
  };
  const kept = keepChild({ name: 'gateway', startChild, log: quietLog, onGivenUp: (reason) => givenUp.push(reason) });
  return {
    kept,
    started,
    givenUp,
    get onStart() {
      return bench.onStart;
    },
    set onStart(next) {
      bench.onStart = next;
    },
  };
}

describe('a child of the keeper', () => {
  it('returns the facts that it reports at its start (a gateway: where it listens)', async () => {
    const { kept } = createBench();
    expect(await kept.start()).toEqual({ number: 1 });
  });

  it('is started again if it is killed during its first start', async () => {
    const bench = createBench();
    bench.onStart = async (number) => {
      if (number < 3)
        throw new BoxRunError('UNAVAILABLE', 'the gateway ended before it was ready (SIGKILL)', { cause: 'SIGKILL' });
    };
    expect(await bench.kept.start()).toEqual({ number: 3 });
  });

  it('fails the start if it is killed at every attempt', async () => {
    const bench = createBench();
    let starts = 0;
    bench.onStart = async () => {
      starts++;
      throw new BoxRunError('UNAVAILABLE', 'the gateway ended before it was ready (SIGKILL)', { cause: 'SIGKILL' });
    };
    await expect(bench.kept.start()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(starts).toBe(1 + limits.childRestartsMax);
    expect(bench.givenUp).toHaveLength(1);
  });

  it('is not tried again if its first start fails by itself, without a signal', async () => {
    const bench = createBench();
    bench.onStart = () => Promise.reject(new Error('port in use'));
    await expect(bench.kept.start()).rejects.toThrow('port in use');
    await settle(10);
    expect(bench.started).toHaveLength(0);
    expect(bench.givenUp).toEqual([]);
    await bench.kept.stop();
  });

  it('is not started again if it ends after restarts were switched off', async () => {
    const { kept, started } = createBench();
    await kept.start();
    kept.stopRestarts();
    started[0]?.die('SIGTERM');
    await kept.stop();
    await settle(10);
    expect(started).toHaveLength(1);
  });

  it('is started again each time that it ends', async () => {
    const { kept, started } = createBench();
    await kept.start();
    for (let time = 0; time < 4; time++) {
      started[time]?.die('SIGKILL');
      await eventually('the next one is there', () => started.length === time + 2);
    }
  });

  it('is started until an attempt succeeds', async () => {
    const bench = createBench();
    await bench.kept.start();
    bench.onStart = async (number) => {
      if (number < 4) throw new Error('not yet');
    };
    bench.started[0]?.die('SIGKILL');
    await eventually('it is there again', () => bench.started.length === 2);
    expect(bench.started[1]?.number).toBe(4);
  });

  it('is given up once with the last reason if it ends too often, and not started any more', async () => {
    const { kept, started, givenUp } = createBench();
    await kept.start();
    for (let time = 0; time <= limits.childRestartsMax; time++) {
      await eventually('it is there', () => started.length === time + 1);
      started[time]?.die(`reason ${time}`);
    }
    await eventually('it is given up', () => givenUp.length === 1);
    await settle(10);
    expect(givenUp[0]).toContain('gateway');
    expect(givenUp[0]).toContain(`reason ${limits.childRestartsMax}`);
    expect(started).toHaveLength(limits.childRestartsMax + 1);
  });

  it('is given up too if it never starts again', async () => {
    const bench = createBench();
    await bench.kept.start();
    bench.onStart = () => Promise.reject(new Error('broken for good'));
    bench.started[0]?.die('SIGKILL');
    await eventually('it is given up', () => bench.givenUp.length === 1);
    expect(bench.givenUp[0]).toContain('broken for good');
    await bench.kept.stop();
  });
});

describe('stopping a child', () => {
  it('ends it, and it is not started again', async () => {
    const { kept, started, givenUp } = createBench();
    await kept.start();
    await kept.stop();
    await settle(10);
    expect(started.map(({ stops }) => stops)).toEqual([1]);
    expect(givenUp).toEqual([]);
  });

  it('waits for a restart that is in progress, and then ends it', async () => {
    const bench = createBench();
    await bench.kept.start();
    const coming = controlledPromise<undefined>();
    bench.onStart = () => coming.promise;
    bench.started[0]?.die('SIGKILL');
    await settle();
    let stopped = false;
    const stopping = bench.kept.stop().then(() => {
      stopped = true;
    });
    await settle();
    expect(stopped).toBe(false);
    coming.resolve(undefined);
    await stopping;
    expect(bench.started.map(({ stops }) => stops)).toEqual([0, 1]);
  });

  it('does nothing if it was never started', async () => {
    const { kept, started } = createBench();
    await kept.stop();
    expect(started).toEqual([]);
  });
});
