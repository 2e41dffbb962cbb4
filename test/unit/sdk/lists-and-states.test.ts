// Lists, idempotency keys and the stream of state events, with small HTTP servers.
import { describe, expect, it } from 'vitest';
import type { BoxRunClient, StateEvent, StateEventsOptions } from '../../../src/sdk/index.ts';
import { bodyOf, exitEvent, logEvent, serve, sse } from './setup.ts';

const change = (seq: number, event: string, state: object = { at: 'now', box: { id: `box_${seq}` } }) =>
  `id: run.${seq}\nevent: ${event}\ndata: ${JSON.stringify(state)}\n\n`;

async function collect(client: BoxRunClient, count: number, options: StateEventsOptions = {}): Promise<StateEvent[]> {
  const events: StateEvent[] = [];
  for await (const event of client.events(options)) {
    events.push(event);
    if (events.length === count) break;
  }
  return events;
}

describe('the stream of state events', () => {
  it('reconnects after the last id, also if the last event has an unknown type', async () => {
    const asked: (string | undefined)[] = [];
    const client = await serve((request, response) => {
      asked.push(request.url);
      if (asked.length === 1) {
        sse(response).write(change(4, 'ready', {}) + change(5, 'box.created') + change(6, 'box.painted'));
        setTimeout(() => response.destroy(), 20);
      } else if (asked.length === 2) {
        response.writeHead(503).end(JSON.stringify({ code: 'UNAVAILABLE', message: 'restarting' }));
      } else {
        sse(response).write(
          change(9, 'reset', {}) + change(10, 'exec.finished', { at: 'then', exec: { id: 'exec_a' } }),
        );
      }
    });
    const lost: string[] = [];
    expect(await collect(client, 4, { onLost: ({ message }) => lost.push(message) })).toEqual([
      { type: 'ready', id: 'run.4' },
      { type: 'box.created', id: 'run.5', at: 'now', box: { id: 'box_5' } },
      { type: 'reset', id: 'run.9' },
      { type: 'exec.finished', id: 'run.10', at: 'then', exec: { id: 'exec_a' } },
    ]);
    expect(asked).toEqual(['/v1/events', '/v1/events?since=run.6', '/v1/events?since=run.6']);
    expect(lost).toEqual([expect.stringContaining('lost'), 'restarting']);
  });

  it('begins after the event `since`', async () => {
    const client = await serve((request, response) => {
      sse(response).write(change(1, request.url === '/v1/events?since=a.1%262' ? 'box.changed' : 'reset'));
    });
    expect(await collect(client, 1, { since: 'a.1&2' })).toMatchObject([{ type: 'box.changed' }]);
  });

  it('gives up after attemptsMax failed connections, or never with Infinity', async () => {
    let connections = 0;
    const client = await serve((request) => {
      connections++;
      request.socket.destroy();
    });
    await expect(collect(client, 1, { attemptsMax: 3 })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: 'the stream of changes was lost',
    });
    expect(connections).toBe(3);
    await expect(
      collect(client, 1, { attemptsMax: Infinity, signal: AbortSignal.timeout(1_500) }),
    ).rejects.toMatchObject({ code: 'CANCELED' });
    expect(connections).toBeGreaterThan(5);
  });

  it('does not reconnect if the server refuses', async () => {
    const client = await serve((_, response) => {
      response.writeHead(401).end(JSON.stringify({ code: 'UNAUTHORIZED', message: 'a token' }));
    });
    await expect(collect(client, 1)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });
});

it('treats the output of a command without `follow` as complete only when the server says so', async () => {
  const asked: (string | undefined)[] = [];
  const client = await serve((request, response) => {
    asked.push(request.url?.split('?')[1]);
    if (asked.length === 1)
      sse(response).end(logEvent(0, 'a')); // A gateway that is stopping.
    else sse(response).end(`${logEvent(1, 'b')}event: end\ndata: {}\n\n`);
  });
  const seen: number[] = [];
  for await (const { seq } of client.execEvents({ id: 'exec_a', box_id: 'box_a' }, { follow: false })) seen.push(seq);
  expect(seen).toEqual([0, 1]);
  expect(asked).toEqual(['encoding=base64&follow=false&after=-1', 'encoding=base64&follow=false&after=0']);
});

it('requests boxes by status and labels, and the next page if there is one', async () => {
  const asked: (string | undefined)[] = [];
  const client = await serve((request, response) => {
    asked.push(request.url);
    if (!(request.url ?? '').includes('cursor')) response.setHeader('x-next-cursor', 'c/1');
    response.end(JSON.stringify([{ id: `box_${asked.length}` }]));
  });
  const filter = { status: 'running', labels: ['team=a&b', 'tier'] } as const;
  const seen: string[] = [];
  for await (const { id } of client.eachBox(filter)) seen.push(id);
  expect(seen).toEqual(['box_1', 'box_2']);
  const query = 'status=running&label=team%3Da%26b&label=tier&limit=200';
  expect(asked).toEqual([`/v1/boxes?${query}`, `/v1/boxes?${query}&cursor=c%2F1`]);
  expect(await client.pageOfExecs('a', { limit: 5 })).toMatchObject({ nextCursor: 'c/1' });
  await client.listExecs('a');
  expect(asked.slice(2)).toEqual(['/v1/boxes/a/execs?limit=5', '/v1/boxes/a/execs']);
});

it('sends an idempotency key only with calls that have one', async () => {
  const keys: unknown[] = [];
  const client = await serve((request, response) => {
    keys.push(`${request.method} ${request.url} ${String(request.headers['idempotency-key'])}`);
    void bodyOf(request);
    if (request.headers.accept === 'text/event-stream') {
      sse(response).end(request.method === 'POST' ? 'event: box\ndata: {"id":"box_a"}\n\n' : exitEvent(0));
    } else {
      response.end(JSON.stringify({ id: 'x', box_id: 'box_a' }));
    }
  });
  const options = { idempotencyKey: 'k' };
  await client.create({ image: 'a' }, options);
  await client.create({ image: 'a' }, { ...options, onProgress: () => undefined });
  await client.startExec('a', ['ls'], options);
  await client.exec('a', ['ls'], options);
  await client.run({ image: 'a', cmd: ['ls'] }, options);
  await client.run({ image: 'a', cmd: ['ls'] });
  expect(keys).toEqual([
    'POST /v1/boxes k',
    'POST /v1/boxes k',
    'POST /v1/boxes/a/exec k',
    'POST /v1/boxes/a/exec k',
    'GET /v1/boxes/box_a/exec/x/events?encoding=base64&after=-1 undefined',
    'POST /v1/run k',
    'POST /v1/run undefined',
  ]);
});
