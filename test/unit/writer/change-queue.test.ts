// How long large changes rest, and for whom: for those that others wait for, not for their own sender's, and not for
// mere output.
import { expect, it } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { createChangeQueue, type WaitingChange } from '../../../src/writer/change-queue.ts';

function unit(sender: string | undefined, kind: 'awaited' | 'output' | 'large'): WaitingChange {
  return {
    apply: () => null,
    operations: 1,
    isLarge: kind === 'large',
    isAwaited: kind === 'awaited',
    sender,
    resolve: () => undefined,
    reject: () => undefined,
  };
}

/** What the next large change waits after one of `loud` that took 5 ms, when these came before it. */
function restAfter(...before: readonly WaitingChange[]): number {
  const queue = createChangeQueue();
  for (const each of [...before, unit('loud', 'large')]) queue.add(each);
  while (queue.length > 0) queue.noteCommit(queue.takeGroup(), 5);
  queue.add(unit('loud', 'large'));
  return queue.pauseMs();
}

it.each([
  ['a change that another waits for', [unit('other', 'awaited')]],
  ['a change of the supervisor', [unit(undefined, 'awaited')]],
  ['a change that another waits for, and then one of its own', [unit('other', 'awaited'), unit('loud', 'awaited')]],
])('a loud sender rests after %s', (_, before) => {
  const restMs = restAfter(...before);
  expect(restMs).toBeGreaterThan(5);
  expect(restMs).toBeLessThanOrEqual(5 * limits.largeChangeRestFactor);
});

it.each([
  ['nothing', []],
  ['changes of its own', [unit('loud', 'awaited'), unit('loud', 'awaited')]],
  ['mere output of another', [unit('other', 'output')]],
])('a loud sender does not rest after %s', (_, before) => {
  expect(restAfter(...before)).toBe(0);
});
