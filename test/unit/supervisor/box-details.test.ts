// A new name of a box while the writer fails: the old name stays the box's, and the new one is free again as soon as
// the database certainly does not have it.
import { expect, it } from 'vitest';
import { createDetailChanges } from '../../../src/supervisor/boxes/box-details.ts';
import { createBoxRegistry } from '../../../src/supervisor/boxes/box-registry.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { createBoxBench } from './setup.ts';

function createBench() {
  const bench = createBoxBench({ state: 'ready', status: 'running', name: 'old' });
  const registry = createBoxRegistry(10);
  registry.add(bench.box);
  return { ...bench, registry, change: createDetailChanges(registry) };
}

it('a rename that the writer refuses leaves the old name, and frees the new one at once', async () => {
  const { box, change, failures, registry } = createBench();
  failures.set('updateBox', new BoxRunError('RUNTIME_ERROR', 'the disk is full'));
  await expect(change(box, { name: 'new' })).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
  expect(box.row.name).toBe('old');
  expect(registry.find('old')).toBe(box);
  expect(() => registry.find('new')).toThrow(/no box/);
  registry.claimName('new', 'box_other');
});

it('a rename without an answer keeps the new name until the database has the old one', async () => {
  const { box, change, committed, failures, registry } = createBench();
  failures.set('updateBox', new BoxRunError('UNAVAILABLE', 'the writer is away'));
  await expect(change(box, { name: 'new' })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(box.row.name).toBe('old');
  expect(() => {
    registry.claimName('new', 'box_other');
  }).toThrow(/not certain yet/);
  failures.clear();
  await eventually('the new name is free', () => {
    try {
      registry.claimName('new', 'box_other');
      return true;
    } catch {
      return false;
    }
  });
  expect(committed()).toMatchObject({ name: 'old' });
  expect(registry.find('old')).toBe(box);
});

it('a rename that fails undoes no change of state that was committed meanwhile', async () => {
  const { box, change, writer } = createBench();
  const request = writer.request.bind(writer);
  let refuse: () => void = () => undefined;
  const refused = new Promise<void>((resolve) => (refuse = resolve));
  Object.assign(writer, {
    request: async (method: 'updateBox', params: { boxId: string; change: object }) => {
      if (!('name' in params.change)) return request(method, params);
      await refused;
      throw new BoxRunError('RUNTIME_ERROR', 'the disk is full');
    },
  });
  const renaming = change(box, { name: 'new' });
  renaming.catch(() => undefined);
  await box.stop(0);
  refuse();
  await expect(renaming).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
  expect([box.state, box.row.status, box.row.name]).toEqual(['stopped', 'stopped', 'old']);
});
