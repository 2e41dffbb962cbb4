// Tests the queue of changes without a database: how long the large changes of a sender pause. They pause for changes
// that other senders wait for, but not for changes of their own sender, and not for output.
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

/** How long the next large change of `loud` waits after one that took 5 ms, when `before` were committed before it. */
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
])('a loud sender pauses after %s', (_, before) => {
  const restMs = restAfter(...before);
  expect(restMs).toBeGreaterThan(5);
  expect(restMs).toBeLessThanOrEqual(5 * limits.largeChangeRestFactor);
});

it.each([
  ['nothing', []],
  ['changes of its own', [unit('loud', 'awaited'), unit('loud', 'awaited')]],
  ['mere output of another', [unit('other', 'output')]],
])('a loud sender does not pause after %s', (_, before) => {
  expect(restAfter(...before)).toBe(0);
});
