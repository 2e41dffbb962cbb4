// Tests the application against doubles of the other processes: what it requests from the supervisor, and how the
// failures of other processes reach clients.
import { pino } from 'pino';
import { describe, expect, it, vi } from 'vitest';
import { createAnswerCache } from '../../../src/gateway/reads/answer-cache.ts';
import { createBudget } from '../../../src/gateway/http/budget.ts';
import { createApp } from '../../../src/gateway/app.ts';
import { createGuard } from '../../../src/gateway/http/guards.ts';
import { createListSender } from '../../../src/gateway/reads/list-answer.ts';
import { createOutputPool, createOutputText } from '../../../src/gateway/runs/output-text.ts';
import { parseTarget } from '../../../src/gateway/http/target.ts';
import type { GatewayParts } from '../../../src/gateway/parts.ts';
import { createStreamPlaces } from '../../../src/gateway/live/stream-places.ts';
import { loadConfig } from '../../../src/shared/settings/config.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';

const config = loadConfig({}, { BOXRUN_STATE_DIR: '/nowhere', BOXRUN_MAX_CPU: '3', BOXRUN_MAX_MEMORY_MB: '9' });

const answers = createAnswerCache({ version: () => null });
const unread = createBudget(1024 * 1024, 'answers');

function createParts(changes: Partial<GatewayParts> = {}): GatewayParts {
  return {
    config,
    log: pino({ level: 'silent' }),
    supervisor: { request: () => Promise.reject(new BoxRunError('UNAVAILABLE', 'the supervisor is not there')) },
    rows: {
      box: () => Promise.resolve(null),
      boxJson: () => Promise.resolve(null),
      execJson: () => Promise.resolve(null),
      boxes: () => Promise.resolve({ json: new Uint8Array(), count: 0, next: null }),
      boxesEnd: () => Promise.resolve(null),
      exec: () => Promise.resolve(null),
      execs: () => Promise.resolve({ json: new Uint8Array(), count: 0, next: null }),
      execsEnd: () => Promise.resolve(null),
      knownKey: () => Promise.resolve(null),
      events: () => Promise.resolve({ events: [], more: false }),
      scrollbackAfter: () => Promise.resolve(-1),
    },
    answers,
    lists: createListSender({ answers, unread, closing: new AbortController().signal }),
    bodies: createBudget(1024 * 1024, 'bodies'),
    unread,
    keepAnswer: () => Promise.resolve(null),
    feed: {
      ended: () => Promise.resolve(),
      read: () => {
        throw new Error('not asked for');
      },
      past: () => {
        throw new Error('not asked for');
      },
      events: vi.fn(),
      lagged: vi.fn(),
      reconnected: vi.fn(),
    },
    states: {
      read: () => {
        throw new Error('not asked for');
      },
      states: vi.fn(),
      lagged: vi.fn(),
      reconnected: vi.fn(),
    },
    health: () => Promise.resolve({ ok: false, parts: { supervisor: false, writer: true, database: true } }),
    meters: {
      watch: vi.fn(),
      portConnection: () => () => undefined,
      outputLost: vi.fn(),
      report: vi.fn(),
      render: () => Promise.resolve(''),
    },
    usage: {
      watch: vi.fn(),
      read: () => {
        throw new Error('not asked for');
      },
    },
    guard: createGuard({ config, access: { check: () => undefined }, isLocal: () => false }),
    access: { newCookie: () => 'cookie' },
    places: createStreamPlaces(1),
    transfers: createStreamPlaces(1),
    address: () => null,
    portNames: { parse: () => null, url: () => null },
    uiDirectory: new URL('file:///nowhere/'),
    closing: new AbortController().signal,
    ...changes,
  };
}

it('the gateway answers 503 with Retry-After while the supervisor is away', async () => {
  const app = await createApp(createParts());
  const answer = await app.inject({ method: 'POST', url: '/v1/boxes', payload: { image: 'base' } });
  expect(answer.statusCode).toBe(503);
  expect(answer.headers['retry-after']).toBe('1');
  expect(answer.json()).toMatchObject({ code: 'UNAVAILABLE' });
  const ready = await app.inject({ url: '/readyz' });
  expect([ready.statusCode, ready.json()]).toEqual([
    503,
    { ok: false, parts: { supervisor: false, writer: true, database: true } },
  ]);
  expect((await app.inject({ url: '/healthz' })).statusCode).toBe(200);
});

it('the gateway tells clients nothing about an unexpected error except where to look', async () => {
  const rows = { ...createParts().rows, boxes: () => Promise.reject(new Error('SELECT secret FROM table')) };
  const app = await createApp(createParts({ rows }));
  const answer = await app.inject({ url: '/v1/boxes' });
  expect(answer.statusCode).toBe(500);
  expect(answer.json()).toMatchObject({ code: 'RUNTIME_ERROR', message: 'the server failed unexpectedly' });
  expect(answer.body).not.toContain('secret');
});

it('the gateway removes reserved environment keys before a request reaches the engine', async () => {
  const request = vi.fn(() => Promise.resolve({ id: 'box_a' }));
  const app = await createApp(createParts({ supervisor: { request: request as never } }));
  const env = { A: '1', BOXLITE_HOME: '/x', BOXRUN_DB: '/y', XBOXRUN_: 'kept' };
  await app.inject({ method: 'POST', url: '/v1/boxes', payload: { image: 'base', env } });
  await app.inject({ method: 'POST', url: '/v1/boxes/a/exec', payload: { cmd: ['a'], env } });
  const kept = { A: '1', XBOXRUN_: 'kept' };
  expect(request).toHaveBeenNthCalledWith(
    1,
    'createBox',
    expect.objectContaining({ ephemeral: false, body: expect.objectContaining({ env: kept }) as unknown }),
    expect.anything(),
  );
  expect(request).toHaveBeenNthCalledWith(
    2,
    'startExec',
    { box: 'a', body: { cmd: ['a'], env: kept } },
    expect.anything(),
  );
});

it('the gateway removes a box by id or name, and uses force only on request', async () => {
  const request = vi.fn(() => Promise.resolve(null));
  const app = await createApp(createParts({ supervisor: { request: request as never } }));
  for (const [query, force] of [
    ['', false],
    ['?force=true', true],
    ['?force=false', false],
  ] as const) {
    expect((await app.inject({ method: 'DELETE', url: `/v1/boxes/web${query}` })).json()).toEqual({ ok: true });
    expect(request).toHaveBeenLastCalledWith('removeBox', { box: 'web', force }, expect.anything());
  }
  expect((await app.inject({ method: 'DELETE', url: '/v1/boxes/web?force=maybe' })).statusCode).toBe(422);
});

it('the gateway checks the host name of requests over TCP, but not over the Unix socket', async () => {
  const request = { url: '/v1/info', headers: { host: 'evil.example' } };
  expect((await (await createApp(createParts())).inject(request)).statusCode).toBe(403);
  const guard = createGuard({ config, access: { check: () => undefined }, isLocal: () => true });
  expect((await (await createApp(createParts({ guard }))).inject(request)).statusCode).toBe(200);
});

describe('the target of a request', () => {
  it.each([
    ['web', { key: 'web', action: null }],
    ['web:stop', { key: 'web', action: 'stop' }],
    ['web:', { key: 'web', action: '' }],
    ['web:stop:now', { key: 'web', action: 'stop:now' }],
  ])('is parsed from "%s"', (text, target) => {
    expect(parseTarget(text)).toEqual(target);
  });
});

describe('the collected output of a run', () => {
  it('is complete up to its limit', () => {
    const output = createOutputText(5);
    output.add(Buffer.from('ab'));
    output.add(Buffer.from('cde'));
    expect([...output.texts()].join('')).toBe('abcde');
  });

  it('is cut at its limit, and says so', () => {
    const output = createOutputText(3);
    output.add(Buffer.from('ab'));
    output.add(Buffer.from('cde'));
    output.add(Buffer.from('f'));
    expect([...output.texts()].join('')).toBe('abc\n[boxrun: output cut after 3 bytes]\n');
  });

  it('is cut earlier when other runs have used the shared limit, and has no gap', () => {
    const pool = createOutputPool(4);
    const [one, other] = [createOutputText(3, pool), createOutputText(3, pool)];
    one.add(Buffer.from('ab'));
    other.add(Buffer.from('c'));
    other.add(Buffer.from('de'));
    other.add(Buffer.from('f'));
    expect([...other.texts()].join('')).toBe('c\n[boxrun: output cut after 1 bytes]\n');
    pool.release(one.keptBytes + other.keptBytes);
    expect(pool.take(4)).toBe(true);
  });

  it('keeps a character whole that arrives in two pieces', () => {
    const output = createOutputText(10);
    output.add(Buffer.from('€').subarray(0, 1));
    output.add(Buffer.from('€').subarray(1));
    expect([...output.texts()].join('')).toBe('€');
  });
});
