// Tests lists on a real server that are longer than one read of the database. Without a limit the client gets all rows
// in order. With a limit it gets pages, even if the rows are long.
import { request } from 'node:http';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addManyExecs, idsOfManyExecs } from '../support/servers/many-rows.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const many = { box: 'box_manyexecs000', letter: 'm', execs: 12_345 };
/** Long rows: one read of the database returns only a few, so a page of the API needs several reads. */
const long = { box: 'box_longexecs000', letter: 'l', execs: 40, argument: 'x'.repeat(300_000) };

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
  await addManyExecs(server, many);
  await addManyExecs(server, long);
});
afterAll(async () => {
  await server.close();
});

const idsOf = (list: readonly unknown[]) => (list as { id: string }[]).map(({ id }) => id);
const get = (box: string, query = '') => server.call({ path: `/v1/boxes/${box}/execs${query}` });

it.each([many, long])('a list without a limit has all $execs rows in order', async (list) => {
  const answer = await get(list.box);
  expect(answer.status).toBe(200);
  expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
  expect(answer.headers['x-next-cursor']).toBeUndefined();
  expect(idsOf(answer.list)).toEqual(idsOfManyExecs(list));
});

it('a list with a cursor and without a limit has all other rows', async () => {
  const first = await get(many.box, '?limit=1000');
  const rest = await get(many.box, `?cursor=${String(first.headers['x-next-cursor'])}`);
  expect(first.list).toHaveLength(1_000);
  expect(idsOf([...first.list, ...rest.list])).toEqual(idsOfManyExecs(many));
});

it('a page has as many rows as the client asks for, even if the rows are long', async () => {
  const pages: string[][] = [];
  for (let cursor = ''; ;) {
    const answer = await get(long.box, `?limit=15${cursor}`);
    pages.push(idsOf(answer.list));
    const next = answer.headers['x-next-cursor'];
    if (next === undefined) break;
    cursor = `&cursor=${String(next)}`;
  }
  expect(pages.map(({ length }) => length)).toEqual([15, 15, 10]);
  expect(pages.flat()).toEqual(idsOfManyExecs(long));
  expect((await get(long.box, `?limit=${long.execs}`)).headers['x-next-cursor']).toBeUndefined();
});

it('the SDK gets all rows, as a list and page by page', async () => {
  expect(await server.client.listExecs(many.box)).toHaveLength(many.execs);
  let count = 0;
  for await (const exec of server.client.eachExec(long.box)) {
    expect(exec.cmd[0]).toBe(long.argument);
    count++;
  }
  expect(count).toBe(long.execs);
});

it('HEAD on a long list has no body', async () => {
  const answer = await server.call({ method: 'HEAD', path: `/v1/boxes/${many.box}/execs` });
  expect([answer.status, answer.text]).toEqual([200, '']);
});

it('the server answers at once after twenty clients have left in the middle of long lists', async () => {
  for (let count = 0; count < 20; count++) {
    const outgoing = request({
      socketPath: server.socketPath,
      path: `/v1/boxes/${long.box}/execs`,
      agent: false,
    }).end();
    outgoing.on('error', () => undefined);
    await once(outgoing, 'response');
    outgoing.destroy();
  }
  expect(idsOf((await get(many.box, '?limit=1')).list)).toEqual([`exec_m${String(many.execs - 1).padStart(11, '0')}`]);
});
