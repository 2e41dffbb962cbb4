// Tests waits with deadlines, work in turn, and the restart window.
import { describe, expect, it } from 'vitest';
import { settledWithin, sleep, timestamp, withDeadline } from '../../../src/shared/waiting/clock.ts';
import { createInTurn, createTurns } from '../../../src/shared/waiting/in-turn.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createRestartWindow } from '../../../src/shared/process/restart-window.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, settle } from '../../support/runs/unit.ts';

describe('the functions for time', () => {
  it('let a sleep be cut short without an error', async () => {
    const stopping = new AbortController();
    const waiting = sleep(60_000, stopping.signal);
    stopping.abort();
    await waiting;
    await sleep(60_000, AbortSignal.abort());
  });

  it('end a wait with the result of the work, its error, or TIMEOUT with its name', async () => {
    expect(await withDeadline(Promise.resolve(7), 1_000, 'x')).toBe(7);
    await expect(withDeadline(Promise.reject(new Error('own')), 1_000, 'x')).rejects.toThrow('own');
    await expect(withDeadline(new Promise(() => undefined), 5, 'the soup')).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: expect.stringContaining('the soup') as unknown,
    });
  });

  it('write times as RFC 3339 in UTC', () => {
    expect(timestamp()).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  });
});

describe('work that runs in turn', () => {
  it('does not overlap, keeps its order, and continues after a failure', async () => {
    const inTurn = createInTurn();
    const events: string[] = [];
    const first = controlledPromise<string>();
    const results = [
      inTurn(async () => {
        events.push('first begins');
        await first.promise;
        events.push('first ends');
      }),
      inTurn(async () => {
        events.push('second');
        throw new Error('second failed');
      }),
      inTurn(async () => {
        events.push('third');
        return 3;
      }),
    ];
    const outcomes = Promise.allSettled(results);
    await settle();
    expect(events).toEqual(['first begins']);
    first.resolve('');
    expect((await outcomes).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(events).toEqual(['first begins', 'first ends', 'second', 'third']);
    expect(await results[2]).toBe(3);
  });
});

describe('settledWithin', () => {
  it('tells whether work ended in time, and throws the error of the work', async () => {
    expect(await settledWithin(Promise.resolve(), 10_000)).toBe(true);
    expect(await settledWithin(new Promise(() => undefined), 5)).toBe(false);
    await expect(settledWithin(Promise.reject(new Error('broken')), 10_000)).rejects.toThrow('broken');
  });
});

describe('a restart window', () => {
  it('allows a limited number within its window, and more as they get old', () => {
    const window = createRestartWindow(3);
    expect([0, 10, 20, 30].map((at) => window.take(at))).toEqual([true, true, true, false]);
    expect(window.take(limits.restartWindowMs - 1)).toBe(false);
    expect(window.take(limits.restartWindowMs)).toBe(true);
    expect(window.take(limits.restartWindowMs + 1)).toBe(false);
    expect(window.take(limits.restartWindowMs + 10)).toBe(true);
  });

  it('is not used by requests that it refuses', () => {
    const window = createRestartWindow(1);
    expect(window.take(0)).toBe(true);
    for (let at = 1; at < limits.restartWindowMs; at += 1_000) expect(window.take(at)).toBe(false);
    expect(window.take(limits.restartWindowMs)).toBe(true);
  });

  it('allows no restart if it is zero', () => {
    expect(createRestartWindow(0).take()).toBe(false);
  });
});

describe('work with a limited number of turns', () => {
  it('runs as much as is allowed, and then one for each that ends or fails, in the order of requests', async () => {
    const turns = createTurns(2);
    const hands = Array.from({ length: 5 }, () => controlledPromise<number>());
    const begun: number[] = [];
    const results = hands.map((hand, index) =>
      turns
        .take(() => {
          begun.push(index);
          return hand.promise;
        })
        .catch(() => 'failed'),
    );
    await settle();
    expect(begun).toEqual([0, 1]);
    hands[1]?.reject(new Error('no'));
    await settle();
    expect(begun).toEqual([0, 1, 2]);
    for (const [index, hand] of hands.entries()) if (index !== 1) hand.resolve(index);
    expect(await Promise.all(results)).toEqual([0, 'failed', 2, 3, 4]);
    expect(begun).toEqual([0, 1, 2, 3, 4]);
    expect(await turns.take(() => Promise.resolve('again'))).toBe('again');
  });

  it('lets the next work begin when one takes too long, and its late end lets no second one begin', async () => {
    const turns = createTurns(1, 30);
    const hung = controlledPromise<string>();
    const begun: string[] = [];
    const work = (name: string, promise: Promise<string>) =>
      turns.take(() => {
        begun.push(name);
        return promise;
      });
    const first = work('first', hung.promise);
    const held = controlledPromise<string>();
    const second = work('second', held.promise);
    await settle();
    expect(begun).toEqual(['first']);
    await eventually('the second has its turn', () => begun.length === 2);
    hung.resolve('late');
    expect(await first).toBe('late');
    const third = work('third', Promise.resolve('3'));
    held.resolve('2');
    expect(await Promise.all([second, third])).toEqual(['2', '3']);
    // No end of work has made room for more than one other.
    const last = controlledPromise<string>();
    void work('fourth', last.promise);
    void work('fifth', last.promise);
    await settle();
    expect(begun).toEqual(['first', 'second', 'third', 'fourth']);
    last.resolve('');
  });

  it('stops waiting when it is canceled', async () => {
    const turns = createTurns(1);
    const hand = controlledPromise<string>();
    const first = turns.take(() => hand.promise);
    const leaving = new AbortController();
    const never = turns.take(() => Promise.reject(new Error('it had its turn')), leaving.signal);
    const third = turns.take(() => Promise.resolve('third'), leaving.signal);
    third.catch(() => undefined);
    leaving.abort();
    await expect(never).rejects.toMatchObject({ code: 'CANCELED' });
    await expect(third).rejects.toMatchObject({ code: 'CANCELED' });
    await expect(turns.take(() => Promise.resolve('fourth'), leaving.signal)).rejects.toMatchObject({
      code: 'CANCELED',
    });
    const last = turns.take(() => Promise.resolve('last'));
    hand.resolve('first');
    expect(await Promise.all([first, last])).toEqual(['first', 'last']);
  });
});
