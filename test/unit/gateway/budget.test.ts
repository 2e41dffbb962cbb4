// Tests the limits on the memory that clients can occupy in the gateway, in total and for each client. Released bytes
// can be taken again.
import { expect, it } from 'vitest';
import { createBudget } from '../../../src/gateway/http/budget.ts';

const never = new AbortController().signal;
const refused = expect.objectContaining({ code: 'TOO_MANY_REQUESTS', status: 429 }) as Error;

it('one client gets half of the budget, and several clients get all of it but not more', () => {
  const budget = createBudget(100, 'bytes');
  budget.take('a', 30);
  budget.take('a', 20);
  expect(() => budget.take('a', 1)).toThrow(refused);
  budget.take('b', 40);
  budget.take('c', 10);
  expect(() => budget.take('c', 1)).toThrow(refused);
});

it('a client that holds nothing gets as much as it needs', () => {
  const budget = createBudget(100, 'bytes');
  budget.take('a', 1_000);
  expect(() => budget.take('a', 1)).toThrow(refused);
  budget.take('b', 1);
});

it('released bytes can be taken again, but only once', () => {
  const budget = createBudget(100, 'bytes');
  const release = budget.take('a', 50);
  release();
  release();
  budget.take('a', 50);
  expect(() => budget.take('a', 1)).toThrow(refused);
});

it('bytes that cannot be refused count too', () => {
  const budget = createBudget(100, 'bytes');
  budget.take('a', 1);
  budget.note('a', 1_000);
  expect(() => budget.take('a', 1)).toThrow(refused);
});

it('a waiting client continues when there is room, or when it cancels', async () => {
  const budget = createBudget(100, 'bytes');
  const release = budget.take('a', 50);
  const order: string[] = [];
  const leaving = new AbortController();
  const left = budget.wait('a', 40, leaving.signal).then((release) => {
    order.push('left');
    release();
  });
  const waiting = budget.wait('a', 40, never).then(() => order.push('got it'));
  leaving.abort();
  await left;
  release();
  await waiting;
  expect(order).toEqual(['left', 'got it']);
});
