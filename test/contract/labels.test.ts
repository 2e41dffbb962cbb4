// Tests labels of boxes on a real server: the API stores and shows them, lists filter by them, and invalid ones are
// refused.
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/shared/api.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

const create = (rest: object) =>
  server.call({ method: 'POST', path: '/v1/boxes', body: { image: 'base', cpu: 1, memory_mb: 64, ...rest } });
const names = async (query: string) =>
  ((await server.call({ path: `/v1/boxes${query}` })).list as Box[]).map(({ name }) => name);

it('labels are shown with their box, and a list can be filtered by key and by value', async () => {
  const labels = { team: 'blue', 'app/web.v1-x': 'a=b', empty: '' };
  expect((await create({ name: 'one', labels })).json['labels']).toEqual(labels);
  expect((await create({ name: 'two', labels: { team: 'red' } })).json['labels']).toEqual({ team: 'red' });
  expect((await create({ name: 'three' })).json['labels']).toEqual({});
  expect((await server.call({ path: '/v1/boxes/one' })).json['labels']).toEqual(labels);
  expect(await names('?label=team')).toEqual(['two', 'one']);
  expect(await names('?label=team=blue')).toEqual(['one']);
  expect(await names('?label=team&label=app/web.v1-x=a=b')).toEqual(['one']);
  expect(await names('?label=team%3Dblue&label=empty=')).toEqual(['one']);
  expect(await names('?label=team=blue&label=team=red')).toEqual([]);
  expect(await names('?label=team&status=stopped')).toEqual([]);
  expect(await names('?label=team=BLUE')).toEqual([]);
});

it.each([
  ['a list', []],
  ['a number', { a: 1 }],
  ['an empty key', { '': 'x' }],
  ['a key that begins with a dot', { '.a': 'x' }],
  ['a key of 64 characters', { ['k'.repeat(64)]: 'x' }],
  ['a value of 256 characters', { a: 'x'.repeat(256) }],
  ['65 labels', Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`k${index}`, '']))],
])('a create whose labels are or have %s is refused', async (_, labels) => {
  const answer = await create({ labels });
  expect([answer.status, answer.json.code]).toEqual([422, 'VALIDATION_ERROR']);
  expect(answer.json.message).toContain('labels');
});

it('a box can have 64 labels, with keys of 63 and values of 255 characters', async () => {
  const labels = Object.fromEntries(
    Array.from({ length: 64 }, (_, index) => [`${index}`.padEnd(63, 'k'), 'x'.repeat(255)]),
  );
  expect((await create({ name: 'many', labels })).status).toBe(201);
});
