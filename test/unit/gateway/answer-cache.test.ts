// Answers that are kept while nothing is committed: never older than the last commit before the question.
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
    /** As a request that comes alone. */
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

it('reads once while nothing is committed, and again after a commit', async () => {
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

it('asks the database once for requests that come together', async () => {
  let asked = 0;
  const cache = createAnswerCache({ version: () => ++asked });
  const ask = () => cache.get('a', async () => answerOf({ value: 'first' }));
  await Promise.all([ask(), ask(), ask()]);
  expect(asked).toBe(1);
  await nextTurn();
  await ask();
  expect(asked).toBe(2);
});

it('does not keep what was read while something was committed', async () => {
  const counted = createCounted();
  await counted.cache.get('a', async () => {
    counted.change('second');
    return answerOf({ value: 'first' });
  });
  expect(await counted.get()).toBe('{"value":"second"}');
});

it('keeps nothing that is not there, and nothing while the database cannot say', async () => {
  const counted = createCounted();
  expect(await counted.cache.get('a', async () => null)).toBeNull();
  expect(await counted.get()).toBe('{"value":"first"}');
  counted.lose();
  await counted.get('b');
  await counted.get('b');
  expect(counted.reads).toBe(3);
});

it('forgets everything at its bound', async () => {
  const { cache } = createCounted();
  let reads = 0;
  const half = async () => {
    reads++;
    return answerOf({ text: 'x'.repeat(limits.answersKeptChars / 2) });
  };
  for (const key of ['a', 'b', 'a', 'b']) await cache.get(key, half);
  expect(reads).toBe(4);
});
