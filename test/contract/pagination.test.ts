// Tests lists in pages on a real server: each row is there once and in order, even if rows are added in the meantime.
// Without a limit the client gets the whole list.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

const create = async (labels: object = {}) =>
  (await server.call({ method: 'POST', path: '/v1/boxes', body: { image: 'base', cpu: 1, memory_mb: 64, labels } }))
    .json['id'] as string;

async function pages(first: string, between: () => Promise<unknown> = async () => undefined): Promise<string[][]> {
  const found: string[][] = [];
  for (let path: string | null = first; path !== null;) {
    const answer = await server.call({ path });
    expect(answer.status).toBe(200);
    found.push((answer.list as { id: string }[]).map(({ id }) => id));
    const { link } = answer.headers;
    const next = typeof link === 'string' ? (/^<([^>]+)>; rel="next"$/.exec(link)?.[1] ?? null) : null;
    expect(answer.headers['x-next-cursor'] === undefined).toBe(next === null);
    path = next;
    await between();
  }
  return found;
}

it('pages of boxes have each box once and in order while others are created', async () => {
  const made: string[] = [];
  for (let count = 0; count < 5; count++) made.unshift(await create({ kind: 'old' }));
  expect(await pages('/v1/boxes')).toEqual([made]);
  expect(await pages('/v1/boxes?limit=2', () => create())).toEqual([made.slice(0, 2), made.slice(2, 4), made.slice(4)]);
  expect(await pages('/v1/boxes?limit=3&label=kind=old')).toEqual([made.slice(0, 3), made.slice(3)]);
  expect(await pages('/v1/boxes?limit=5&label=kind=old')).toEqual([made]);
});

it('pages of the commands of a box have each command once and in order', async () => {
  const box = await create();
  const made: string[] = [];
  for (let count = 0; count < 4; count++) {
    made.unshift(
      (await server.call({ method: 'POST', path: `/v1/boxes/${box}/exec`, body: { cmd: ['true'] } })).json[
        'id'
      ] as string,
    );
  }
  expect(await pages(`/v1/boxes/${box}/execs`)).toEqual([made]);
  expect(await pages(`/v1/boxes/${box}/execs?limit=3`)).toEqual([made.slice(0, 3), made.slice(3)]);
});

it.each([
  'limit=0',
  'limit=-1',
  'limit=1001',
  'limit=x',
  'limit=1.5',
  'limit=1&limit=2',
  'cursor=',
  'cursor=rubbish',
  'cursor=MjAyNg',
])('a list with %s is refused', async (query) => {
  const answer = await server.call({ path: `/v1/boxes?${query}` });
  expect([answer.status, answer.json.code]).toEqual([422, 'VALIDATION_ERROR']);
});
