// Tests on a real server that a client can change the name and the labels of a box in every state, and that every other
// reader sees the change: lists, state events, and the server after a restart.
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BoxHandle, StateEvent } from '../../src/sdk/index.ts';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type Call, type TestServer } from '../support/servers/server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

const patch = (box: string, body: unknown, more: Partial<Call> = {}) =>
  server.call({ method: 'PATCH', path: `/v1/boxes/${box}`, body, ...more });

it('a renamed box has its new name everywhere, and its old name is free', async () => {
  const box = await server.client.create({ ...small, name: 'before' });
  await box.update({ name: 'after' });
  expect(box.name).toBe('after');
  expect((await server.client.getBox('after')).id).toBe(box.id);
  await expect(server.client.getBox('before')).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
  expect((await server.client.exec('after', ['echo', 'hello'])).stdout).toBe('hello\n');
  const other = await server.client.create({ ...small, name: 'before' });
  expect((await server.client.getBox('before')).id).toBe(other.id);
});

it('null removes the name, and the box stays reachable by its id', async () => {
  const box = await server.client.create({ ...small, name: 'short-lived' });
  expect((await server.client.updateBox('short-lived', { name: null })).name).toBeNull();
  await expect(server.client.getBox('short-lived')).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
  expect((await server.client.getBox(box.id)).name).toBeNull();
});

it('labels are merged: null removes one label, or all of them', async () => {
  const box = await server.client.create({ ...small, labels: { team: 'blue', old: 'x' } });
  await box.update({ labels: { team: 'green', old: null, stage: 'test' } });
  expect(box.labels).toEqual({ team: 'green', stage: 'test' });
  const found = await server.client.listBoxes({ labels: ['team=green'] });
  expect(found.map(({ id }) => id)).toEqual([box.id]);
  await box.update({ labels: null });
  expect(box.labels).toEqual({});
  expect(await server.client.listBoxes({ labels: ['team'] })).toEqual([]);
});

it('a change that changes nothing succeeds, and so does an empty one', async () => {
  const box = await server.client.create({ ...small, name: 'same', labels: { a: 'b' } });
  for (const body of [{}, { name: 'same' }, { labels: { a: 'b' } }, { labels: { c: null } }, { labels: {} }]) {
    expect(await patch('same', body)).toMatchObject({ status: 200, json: { id: box.id, name: 'same' } });
  }
});

it('a stopped box can be changed, and the change outlives the server', async () => {
  const box = await server.client.create({ ...small, name: 'sleeping' });
  await box.stop();
  await box.update({ name: 'rested', labels: { kept: 'yes' } });
  await server.stop();
  await server.start();
  expect(await server.client.getBox('rested')).toMatchObject({
    id: box.id,
    labels: { kept: 'yes' },
    status: 'stopped',
  });
  await expect(server.client.startBox('sleeping')).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
  expect((await server.client.startBox('rested')).status).toBe('running');
});

it('a box that is being stopped can be changed without waiting for the stop', async () => {
  const box = await server.client.create(small);
  await box.startExec(['sh', '-c', 'trap "" TERM; while :; do sleep 0.1; done']);
  let isStopped = false;
  const stopping = server.client.stopBox(box.id, { graceS: 5 }).finally(() => (isStopped = true));
  await eventually('the stop has begun', async () =>
    (await server.call({ method: 'POST', path: `/v1/boxes/${box.id}/exec`, body: { cmd: ['true'] } })).text.includes(
      'being stopped',
    ),
  );
  expect((await server.client.updateBox(box.id, { name: 'ending' })).name).toBe('ending');
  expect(isStopped).toBe(false);
  expect((await stopping).name).toBe('ending');
});

it('two boxes that ask for one name at once get it once', async () => {
  const boxes = await Promise.all(['one', 'two', 'three'].map((name) => server.client.create({ ...small, name })));
  const results = await Promise.allSettled(boxes.map((box) => server.client.updateBox(box.id, { name: 'wanted' })));
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const each of results) {
    if (each.status === 'rejected') expect(each.reason).toMatchObject({ code: 'NAME_ALREADY_EXISTS', status: 409 });
  }
  expect((await server.client.listBoxes()).filter(({ name }) => name === 'wanted')).toHaveLength(1);
});

it('a change gives one state event, with the changed box', async () => {
  const box: BoxHandle = await server.client.create(small);
  const seen: StateEvent[] = [];
  for await (const event of server.client.events()) {
    if (event.type === 'ready') {
      await box.update({ labels: { a: '1' } });
      await box.update({ labels: { a: '1' } });
      await box.update({ name: 'told', labels: { a: '2' } });
    }
    if (event.type === 'box.changed' && event.box.id === box.id) seen.push(event);
    if (seen.length === 2) break;
  }
  expect(seen).toMatchObject([{ box: { labels: { a: '1' } } }, { box: { name: 'told', labels: { a: '2' } } }]);
});

it('bad changes are refused, and change nothing', async () => {
  const box = await server.client.create({ ...small, name: 'strict', labels: { a: 'b' } });
  const full = Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`key${index}`, 'x']));
  const bad = [{ name: '' }, { name: 'a b' }, { name: 'box_abcdefghijkl' }, { name: 1 }, { labels: 'x' }];
  for (const body of [...bad, { labels: { 'a b': 'c' } }, { labels: { a: 1 } }, { name: 'new', labels: full }, []]) {
    expect(await patch('strict', body), JSON.stringify(body)).toMatchObject({
      status: 422,
      json: { code: 'VALIDATION_ERROR' },
    });
  }
  expect(await patch('nobody', { name: 'x' })).toMatchObject({ status: 404, json: { code: 'BOX_NOT_FOUND' } });
  expect(await patch('strict', '<a/>', { headers: { 'content-type': 'text/xml' } })).toMatchObject({ status: 415 });
  const foreign = { headers: { origin: 'http://elsewhere.example' } };
  expect(await patch('strict', { name: 'stolen' }, foreign)).toMatchObject({
    status: 403,
    json: { code: 'FORBIDDEN' },
  });
  expect(await server.client.getBox('strict')).toMatchObject({ id: box.id, labels: { a: 'b' } });
});

it('OPTIONS names PATCH', async () => {
  const answer = await server.call({ method: 'OPTIONS', path: '/v1/boxes/any' });
  expect(answer.headers.allow).toContain('PATCH');
});
