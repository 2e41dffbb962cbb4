// Lists that are longer than a page of the database: they come whole and in order to those who ask for no limit, and
// page by page to those who do, also where the rows are long.
import { request } from 'node:http';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addManyExecs, idsOfManyExecs } from '../support/servers/many-rows.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const many = { box: 'box_manyexecs000', letter: 'm', execs: 12_345 };
/** A page of the database has a few of them, a page of a client all. */
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

it.each([many, long])('come whole and in order without a limit: $execs rows', async (list) => {
  const answer = await get(list.box);
  expect(answer.status).toBe(200);
  expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
  expect(answer.headers['x-next-cursor']).toBeUndefined();
  expect(idsOf(answer.list)).toEqual(idsOfManyExecs(list));
});

it('come whole behind a cursor', async () => {
  const first = await get(many.box, '?limit=1000');
  const rest = await get(many.box, `?cursor=${String(first.headers['x-next-cursor'])}`);
  expect(first.list).toHaveLength(1_000);
  expect(idsOf([...first.list, ...rest.list])).toEqual(idsOfManyExecs(many));
});

it('have as many rows on a page as the client asks for, however long they are', async () => {
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

it('come to the SDK whole, and page by page', async () => {
  expect(await server.client.listExecs(many.box)).toHaveLength(many.execs);
  let count = 0;
  for await (const exec of server.client.eachExec(long.box)) {
    expect(exec.cmd[0]).toBe(long.argument);
    count++;
  }
  expect(count).toBe(long.execs);
});

it('answer HEAD without a body', async () => {
  const answer = await server.call({ method: 'HEAD', path: `/v1/boxes/${many.box}/execs` });
  expect([answer.status, answer.text]).toEqual([200, '']);
});

it('are of no more interest once their client has left', async () => {
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
