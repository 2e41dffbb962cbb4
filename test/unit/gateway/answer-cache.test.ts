// Tests the cache of answers, which is valid while nothing is committed. A cached answer is never older than the last
// commit before the request.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createAnswerCache, type Answer } from '../../../src/gateway/reads/answer-cache.ts';
import { limits } from '../../../src/shared/limits.ts';

const answerOf = (row: object): Answer => ({ json: JSON.stringify(row), next: null });

function createCounted() {
  let version: number | null = 1;
  let reads = 0;
  let value = 'first';
  const cache = createAnswerCache({ version: () => version });
  return {
    change(next: string) {
      value = next;
      version = (version ?? 0) + 1;
    },
    lose() {
      version = null;
    },
    /** Like a request that arrives alone. */
    async get(key = 'a') {
      await nextTurn();
      return (
        await cache.get(key, async () => {
          reads++;
          return answerOf({ value });
        })
      ).json;
    },
    cache,
    get reads() {
      return reads;
    },
  };
}

it('the cache reads once while nothing is committed, and again after a commit', async () => {
  const counted = createCounted();
  expect([await counted.get(), await counted.get(), counted.reads]).toEqual([
    '{"value":"first"}',
    '{"value":"first"}',
    1,
  ]);
  counted.change('second');
  expect([await counted.get(), await counted.get(), counted.reads]).toEqual([
    '{"value":"second"}',
    '{"value":"second"}',
    2,
  ]);
});

it('the cache asks the database once for requests that arrive together', async () => {
  let asked = 0;
  const cache = createAnswerCache({ version: () => ++asked });
  const ask = () => cache.get('a', async () => answerOf({ value: 'first' }));
  await Promise.all([ask(), ask(), ask()]);
  expect(asked).toBe(1);
  await nextTurn();
  await ask();
  expect(asked).toBe(2);
});

it('the cache does not keep an answer that was read during a commit', async () => {
  const counted = createCounted();
  await counted.cache.get('a', async () => {
    counted.change('second');
    return answerOf({ value: 'first' });
  });
  expect(await counted.get()).toBe('{"value":"second"}');
});

it('the cache keeps no missing rows, and nothing while the database cannot tell its version', async () => {
  const counted = createCounted();
  expect(await counted.cache.get('a', async () => null)).toBeNull();
  expect(await counted.get()).toBe('{"value":"first"}');
  counted.lose();
  await counted.get('b');
  await counted.get('b');
  expect(counted.reads).toBe(3);
});

it('the cache removes everything when it reaches its limit', async () => {
  const { cache } = createCounted();
  let reads = 0;
  const half = async () => {
    reads++;
    return answerOf({ text: 'x'.repeat(limits.answersKeptChars / 2) });
  };
  for (const key of ['a', 'b', 'a', 'b']) await cache.get(key, half);
  expect(reads).toBe(4);
});
