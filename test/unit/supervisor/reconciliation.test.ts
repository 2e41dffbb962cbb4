// Tests reconciliation against given findings, and single boxes against doubles. Reconciliation repairs what two sweeps
// in a row have found, a limited number of things in each sweep, and never what belongs to another server.
import { describe, expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { createMeters } from '../../../src/shared/observe/metrics.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createReconciliation, type Finding } from '../../../src/supervisor/recovery/reconciliation.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, quietLog } from '../../support/runs/unit.ts';
import { createBoxBench } from './setup.ts';

function bench(found: Finding[]) {
  const meters = createMeters('supervisor');
  const reconciliation = createReconciliation({ look: async () => found, meters, log: quietLog });
  async function value(name: string, kind?: string): Promise<number | undefined> {
    const metrics = (await meters.snapshot()) as unknown as {
      name: string;
      values: { value: number; labels: { kind?: string } }[];
    }[];
    const values = metrics.find((metric) => metric.name === `boxrun_reconcile_${name}`)?.values;
    return values?.find(({ labels }) => labels.kind === kind)?.value;
  }
  return { reconciliation, value };
}

function finding(key: string, repair: Finding['repair'], kind: Finding['things'][number]['kind'] = 'home'): Finding {
  return { key, cause: 'a test', things: [{ kind, what: key }], repair };
}

describe('reconciliation', () => {
  it('repairs only what two sweeps in a row have found', async () => {
    const settled: string[] = [];
    const found = [finding('a', async () => void settled.push('a'))];
    const { reconciliation, value } = bench(found);
    await reconciliation.sweep();
    expect(settled).toEqual([]);
    expect(await value('found_total', 'home')).toBe(0);
    await reconciliation.sweep();
    expect(settled).toEqual(['a']);
    expect(await value('found_total', 'home')).toBe(1);
    expect(await value('settled_total', 'home')).toBe(1);
  });

  it('starts counting again after a sweep that has not found the trouble', async () => {
    const settled: string[] = [];
    const found = [finding('a', async () => void settled.push('a'))];
    const { reconciliation } = bench(found);
    await reconciliation.sweep();
    const kept = found.splice(0);
    await reconciliation.sweep();
    found.push(...kept);
    await reconciliation.sweep();
    expect(settled).toEqual([]);
  });

  it('does not touch findings of another owner, and counts them', async () => {
    const { reconciliation, value } = bench([finding('theirs', null)]);
    for (let sweep = 0; sweep < 3; sweep++) await reconciliation.sweep();
    expect(await value('left')).toBe(1);
    expect(await value('found_total', 'home')).toBe(1);
    expect(await value('settled_total', 'home')).toBe(0);
  });

  it('tries a failed repair again, and goes on with the others', async () => {
    const settled: string[] = [];
    let failures = 1;
    const stubborn = async () => {
      if (failures-- > 0) throw new Error('not yet');
      settled.push('a');
    };
    const { reconciliation, value } = bench([finding('a', stubborn), finding('b', async () => void settled.push('b'))]);
    await reconciliation.sweep();
    await reconciliation.sweep();
    expect(settled).toEqual(['b']);
    expect(await value('failed_total', 'home')).toBe(1);
    await reconciliation.sweep();
    expect(settled).toEqual(['b', 'a', 'b']);
    expect(await value('found_total', 'home')).toBe(2);
  });

  it('does a limited number of repairs in one sweep, and the others in the next', async () => {
    const left = new Set(Array.from({ length: limits.reconcileStepsMax + 3 }, (_, index) => `thing ${index}`));
    const found: Finding[] = [];
    const { reconciliation } = bench(found);
    const sweep = async () => {
      found.splice(0, found.length, ...[...left].map((key) => finding(key, async () => void left.delete(key))));
      await reconciliation.sweep();
    };
    await sweep();
    await sweep();
    expect(left.size).toBe(3);
    await sweep();
    expect(left.size).toBe(0);
  });

  it('sweeps at once when it starts, goes on after a failed sweep, and ends when it is closed', async () => {
    const meters = createMeters('supervisor');
    let sweeps = 0;
    const look = async () => {
      sweeps++;
      throw new Error('no');
    };
    const reconciliation = createReconciliation({ look, meters, log: quietLog });
    reconciliation.start(1);
    await eventually('it has swept three times', () => sweeps >= 3);
    await reconciliation.close();
    const before = sweeps;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(sweeps).toBe(before);
  });

  it('begins no new repair when it is closed, and waits for the one in progress', async () => {
    const begun: string[] = [];
    const first = controlledPromise<undefined>();
    const slow = async () => {
      begun.push('a');
      await first.promise;
    };
    const { reconciliation } = bench([finding('a', slow), finding('b', async () => void begun.push('b'))]);
    reconciliation.start(1);
    await eventually('it acts', () => begun.length === 1);
    const closed = reconciliation.close();
    first.resolve(undefined);
    await closed;
    expect(begun).toEqual(['a']);
  });
});

describe('a box that differs from its row', () => {
  const quiet = { isOnHost: false, hasRunningRows: false };

  it.each(['creating', 'starting', 'stopping', 'removing'] as const)(
    'is left alone while its state is %s',
    async (state) => {
      const { box } = createBoxBench({ state });
      expect(await box.findTrouble({ isOnHost: true, hasRunningRows: true })).toBeNull();
    },
  );

  it('has no trouble if its worker has its engine, or if it is stopped and nothing is left of it', async () => {
    expect(
      await createBoxBench({ state: 'ready' }, { running: true }).box.findTrouble({ ...quiet, isOnHost: true }),
    ).toBeNull();
    expect(await createBoxBench({ state: 'stopped' }).box.findTrouble(quiet)).toBeNull();
  });

  it('gets a worker if it runs without one', async () => {
    const { box, worker } = createBoxBench({ state: 'ready' });
    const trouble = await box.findTrouble(quiet);
    expect(trouble).toMatchObject({ kind: 'worker' });
    if (trouble !== null) await box.repair(trouble);
    expect(worker.calls).toEqual(['takeOver']);
    expect(box.state).toBe('ready');
  });

  it('is stopped with a reason if its worker says that the engine does not run', async () => {
    const { box, committed, freeCpus } = createBoxBench({ state: 'ready' }, { running: false });
    const trouble = await box.findTrouble({ ...quiet, isOnHost: true });
    if (trouble !== null) await box.repair(trouble);
    expect(committed()).toMatchObject({ state: 'stopped', error_code: 'RUNTIME_ERROR' });
    expect(freeCpus()).toBe(4);
  });

  it.each(['stopped', 'failed'] as const)('gets its engine ended if it is %s', async (state) => {
    const { box, worker } = createBoxBench({ state });
    const trouble = await box.findTrouble({ ...quiet, isOnHost: true });
    if (trouble !== null) await box.repair(trouble);
    expect(worker.calls).toEqual(['tryStop']);
    expect(box.state).toBe(state);
  });

  it('gets its commands ended if they are still running in the rows', async () => {
    const { box, worker } = createBoxBench({ state: 'stopped' });
    const trouble = await box.findTrouble({ ...quiet, hasRunningRows: true });
    if (trouble !== null) await box.repair(trouble);
    expect(worker.calls).toEqual(['release']);
  });

  it('releases its quota if it was stuck and nothing is left of it', async () => {
    const { box, committed, freeCpus } = createBoxBench({ state: 'stuck' });
    expect(await box.findTrouble({ ...quiet, isOnHost: true })).toBeNull();
    const trouble = await box.findTrouble(quiet);
    if (trouble !== null) await box.repair(trouble);
    expect(committed()).toMatchObject({ state: 'failed' });
    expect(freeCpus()).toBe(4);
  });

  it('is not touched if it has changed since it was found', async () => {
    const { box, worker } = createBoxBench({ state: 'stopped' });
    const trouble = await box.findTrouble({ ...quiet, isOnHost: true });
    await box.start(() => undefined);
    if (trouble !== null) await box.repair(trouble);
    expect(worker.calls).toEqual(['start']);
    expect(box.state).toBe('ready');
  });

  it('releases everything if its row is gone', async () => {
    const { box, worker, events, failures, freeCpus } = createBoxBench({ state: 'ready' }, { running: true });
    failures.set('updateBox', new BoxRunError('BOX_NOT_FOUND', 'no such row'));
    await box.release();
    expect(worker.calls).toEqual(['release']);
    expect(events).toEqual(['removed']);
    expect(box.state).toBe('removed');
    expect(freeCpus()).toBe(4);
  });

  it('is reported again if its engine cannot be ended', async () => {
    const { box, worker } = createBoxBench({ state: 'stopped' });
    worker.on.tryStop = async () => false;
    const trouble = await box.findTrouble({ ...quiet, isOnHost: true });
    await expect(trouble === null ? null : box.repair(trouble)).rejects.toThrow('cannot be ended');
  });
});
