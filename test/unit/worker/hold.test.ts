// Tests how long the worker delays the answer to a short command. The time stays within its limits, follows the
// duration of short commands, and ignores long ones.
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { createHoldEstimate } from '../../../src/worker/commands/hold.ts';
import { createRandom } from '../../support/runs/random.ts';

describe('the delay of an answer', () => {
  it('stays within its limits after any observations', () => {
    const random = createRandom(3);
    for (const firstGuess of [0, 5, 60, 10_000]) {
      const hold = createHoldEstimate(firstGuess);
      for (let time = 0; time < 500; time++) {
        expect(hold.holdMs()).toBeGreaterThanOrEqual(limits.execHoldLeastMs);
        expect(hold.holdMs()).toBeLessThanOrEqual(limits.execHoldMostMs);
        hold.observe(random.pick([0, 1, 20, 100, 249, 250, 251, 100_000]));
      }
    }
  });

  it('grows to cover short commands on a slower engine', () => {
    const hold = createHoldEstimate(12);
    for (let time = 0; time < 40; time++) hold.observe(80);
    expect(hold.holdMs()).toBeGreaterThan(80);
    expect(hold.holdMs()).toBeLessThan(160);
  });

  it('does not change after commands that take longer than the longest hold', () => {
    const hold = createHoldEstimate(12);
    const before = hold.holdMs();
    for (let time = 0; time < 100; time++) hold.observe(60_000);
    expect(hold.holdMs()).toBe(before);
  });

  it('changes only a little after one slow command', () => {
    const hold = createHoldEstimate(12);
    const before = hold.holdMs();
    hold.observe(240);
    expect(hold.holdMs() - before).toBeLessThan(15);
  });
});
