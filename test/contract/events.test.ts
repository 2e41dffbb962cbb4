// Tests the stream of state events on a real server: its events, how a client resumes it, and what happens when
// processes of the server die. The tests use plain HTTP when the format matters, and otherwise the SDK.
import { request, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BoxRunClient, StateEvent, StateEventsOptions } from '../../src/sdk/index.ts';
import { createConformance, type ApiDocument } from '../support/api/conformance.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { parseSse, startServer, type SseMessage, type TestServer } from '../support/servers/server.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

interface Watch {
  readonly incoming: IncomingMessage;
  messages(): SseMessage[];
  close(): void;
}

async function watch(headers: Record<string, string> = {}, query = ''): Promise<Watch> {
  const outgoing = request({ host: '127.0.0.1', port: server.port, path: `/v1/events${query}`, headers, agent: false });
  outgoing.end();
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
  let text = '';
  incoming.on('data', (piece: Buffer) => {
    text += piece.toString();
  });
  incoming.on('error', () => undefined);
  return {
    incoming,
    messages: () => parseSse(text),
    close: () => {
      outgoing.destroy();
    },
  };
}

/** Follows the stream with the SDK, and collects its events. */
function follow(client: BoxRunClient, options: StateEventsOptions = {}) {
  const controller = new AbortController();
  const seen: StateEvent[] = [];
  const ended = (async () => {
    for await (const event of client.events({ ...options, signal: controller.signal })) seen.push(event);
  })().catch((error: unknown) => error);
  return {
    seen,
    ended,
    stop: () => {
      controller.abort();
    },
  };
}

const idOf = (event: StateEvent) => ('box' in event ? event.box.id : 'exec' in event ? event.exec.id : '');
const kindsOf = (events: readonly StateEvent[], id: string) =>
  events.filter((event) => idOf(event) === id).map(({ type }) => type);
const small = { image: 'base', cpu: 1, memory_mb: 64 };

it('the stream reports every change of a box and its commands, with the objects of the API', async () => {
  const watcher = await watch();
  expect(watcher.incoming.headers).toMatchObject({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
  });
  await eventually('it is ready', async () => watcher.messages().length === 1);
  const box = await server.client.create({ ...small, name: 'told', labels: { a: 'b\u2028' } });
  const shown = (await server.call({ path: '/v1/boxes/told' })).json;
  const exec = await server.client.startExec('told', ['sh', '-c', 'echo output; exit 3']);
  const ended = await server.client.getExec('told', exec.id, { waitS: 10 });
  await server.client.stopBox('told');
  const stopped = (await server.call({ path: '/v1/boxes/told' })).json;
  await server.client.removeBox('told');
  await eventually('the removal is reported', async () =>
    watcher.messages().some(({ event }) => event === 'box.removed'),
  );
  const messages = watcher.messages();
  watcher.close();
  const document = (await server.call({ path: '/openapi.json' })).json as unknown as ApiDocument;
  const { fits } = createConformance(document);
  for (const { event, data } of messages.slice(1)) {
    expect(
      fits(
        { $ref: `#/components/schemas/${event?.startsWith('box.') === true ? 'BoxState' : 'ExecState'}` },
        JSON.parse(data),
      ),
      data,
    ).toBe(true);
    expect(data).not.toMatch(/\u2028|generation|event_type/);
  }
  const kinds = messages.map(({ event }) => event);
  expect(kinds.filter((kind, index) => kind !== kinds[index - 1])).toEqual([
    'ready',
    'box.created',
    'box.changed',
    'exec.started',
    'exec.finished',
    'box.changed',
    'box.removed',
  ]);
  const last = (kind: string, field: string) =>
    messages
      .filter(({ event }) => event === kind)
      .map(({ data }) => (JSON.parse(data) as Record<string, unknown>)[field]);
  expect(last('box.created', 'box')).toMatchObject([{ id: box.id, status: 'creating', name: 'told' }]);
  expect(last('box.changed', 'box')).toContainEqual(shown);
  expect(last('box.changed', 'box')).toContainEqual(stopped);
  expect(last('box.removed', 'box')).toEqual([stopped]);
  expect(last('exec.started', 'exec')).toMatchObject([
    { id: exec.id, status: 'running', cmd: ['sh', '-c', 'echo output; exit 3'] },
  ]);
  expect(last('exec.finished', 'exec')).toEqual([ended]);
  const ids = messages.map(({ id }) => Number(id?.split('.')[1]));
  expect(ids).toEqual(ids.map((_, index) => (ids[0] ?? 0) + index));
});

it('the stream resumes after the id in Last-Event-ID or since, and sends reset for an unknown id', async () => {
  const first = await watch();
  await eventually('it is ready', async () => first.messages().length === 1);
  const readyId = first.messages()[0]?.id ?? '';
  const box = await server.client.create(small);
  await eventually('it runs', async () => first.messages().some(({ data }) => data.includes('"running"')));
  first.close();
  await server.client.removeBox(box.id, { force: true });
  const all = await watch({ 'last-event-id': readyId }, '?since=nonsense');
  const same = await watch({}, `?since=${readyId}`);
  await eventually('the removal is reported', async () =>
    [all, same].every((each) => each.messages().at(-1)?.event === 'box.removed'),
  );
  expect(all.messages()).toEqual(same.messages());
  expect(all.messages().slice(0, first.messages().length - 1)).toEqual(first.messages().slice(1));
  const foreign = await watch({ 'last-event-id': '17' });
  await eventually('the reset comes', async () => foreign.messages().length === 1);
  expect(foreign.messages()).toEqual([{ id: all.messages().at(-1)?.id, event: 'reset', data: '{}' }]);
  for (const each of [all, same, foreign]) each.close();
  expect((await server.call({ path: `/v1/events?since=${'x'.repeat(65)}` })).json).toMatchObject({
    code: 'VALIDATION_ERROR',
  });
  expect((await server.call({ method: 'HEAD', path: '/v1/events' })).headers['content-type']).toContain(
    'text/event-stream',
  );
  expect((await server.call({ method: 'POST', path: '/v1/events' })).status).toBe(405);
});

it('eight clients get the same events, and no event twice', async () => {
  const clients = Array.from({ length: 8 }, () => follow(server.client));
  await eventually('all are ready', async () => clients.every(({ seen }) => seen[0]?.type === 'ready'));
  const box = await server.client.create(small);
  const execs = await Promise.all(Array.from({ length: 30 }, () => server.client.startExec(box.id, ['true'])));
  await server.client.removeBox(box.id, { force: true });
  for (const client of clients) {
    await eventually('it has all events', async () => client.seen.at(-1)?.type === 'box.removed');
    expect(client.seen).toEqual(clients[0]?.seen);
    for (const { id } of execs) expect(kindsOf(client.seen, id)).toEqual(['exec.started', 'exec.finished']);
    client.stop();
    expect(await client.ended).toMatchObject({ code: 'CANCELED' });
  }
});

async function kill(role: 'gateway' | 'supervisor' | 'writer'): Promise<void> {
  const { pid } = await processOf(server.stateDir, role);
  process.kill(pid, 'SIGKILL');
  await eventually(
    `another ${role} works`,
    async () =>
      (await processOf(server.stateDir, role).catch(() => null))?.pid !== pid &&
      (await server.client.startExec('lasting', ['true']).then(
        () => true,
        () => false,
      )),
  );
}

it('the stream loses no event when the gateway or supervisor dies, and sends reset when the writer dies', async () => {
  const box = await server.client.create({ ...small, name: 'lasting' });
  const lost: string[] = [];
  const client = follow(server.client, { onLost: ({ code }) => lost.push(code) });
  await eventually('it is ready', async () => client.seen.length === 1);
  for (const role of ['gateway', 'supervisor'] as const) {
    await kill(role);
    const exec = await server.client.startExec(box.id, ['true']);
    await eventually('events come again', async () => kindsOf(client.seen, exec.id).includes('exec.finished'));
  }
  expect(client.seen.map(({ type }) => type)).not.toContain('reset');
  expect(new Set(lost)).toEqual(new Set(['UNAVAILABLE']));
  const ids = client.seen.map(({ id }) => Number(id.split('.')[1]));
  expect(ids).toEqual(ids.map((_, index) => (ids[0] ?? 0) + index));
  await kill('writer');
  // The client lists everything again at a reset. So events before the reset may be missing in the stream.
  await eventually('the reset comes', async () => client.seen.some(({ type }) => type === 'reset'));
  const exec = await server.client.startExec(box.id, ['true']);
  await eventually('events come again', async () => kindsOf(client.seen, exec.id).includes('exec.finished'));
  expect(client.seen.filter(({ type }) => type === 'reset')).toHaveLength(1);
  expect(kindsOf(client.seen, exec.id)).toEqual(['exec.started', 'exec.finished']);
  client.stop();
  await client.ended;
  await server.client.removeBox(box.id, { force: true });
});

it('the stream of the SDK goes on after an orderly restart of the server', async () => {
  const client = follow(server.client, { attemptsMax: Infinity });
  await eventually('it is ready', async () => client.seen.length === 1);
  await server.stop();
  await server.start();
  const box = await server.client.create(small);
  await eventually(
    'events come again',
    async () =>
      kindsOf(client.seen, box.id).includes('box.created') || client.seen.some(({ type }) => type === 'reset'),
  );
  client.stop();
  await client.ended;
});

it('the output stream of a command with follow=false sends the events so far, and then an end event', async () => {
  const box = await server.client.create(small);
  const exec = await server.client.startExec(box.id, ['sh', '-c', 'echo one; sleep 300']);
  const path = `/v1/boxes/${box.id}/exec/${exec.id}/events`;
  await eventually('it has written', async () =>
    (await server.call({ path: `${path}?follow=false` })).text.includes('one'),
  );
  const messages = parseSse((await server.call({ path: `${path}?follow=false` })).text);
  expect(messages.map(({ event }) => event)).toEqual(['log', 'end']);
  expect(
    parseSse((await server.call({ path: `${path}?follow=false&after=0` })).text).map(({ event }) => event),
  ).toEqual(['end']);
  const past: unknown[] = [];
  for await (const event of server.client.execEvents(exec, { follow: false })) past.push(event.type);
  expect(past).toEqual(['log']);
  await server.client.cancelExec(box.id, exec.id);
  expect(parseSse((await server.call({ path: `${path}?follow=false` })).text).map(({ event }) => event)).toEqual([
    'log',
    'exit',
    'end',
  ]);
  expect((await server.call({ path: `${path}?follow=maybe` })).json).toMatchObject({ code: 'VALIDATION_ERROR' });
});
