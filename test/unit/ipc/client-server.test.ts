// Tests both sides of a contract over a real Unix socket: requests, notices, errors, and a peer that breaks a rule. The
// contract is the example `kitchen` of setup.ts: guests are clients, and the cook is the server.
import { statSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { connectContract } from '../../../src/shared/ipc/client.ts';
import { createFrameDecoder, encodeFrame } from '../../../src/shared/ipc/frame.ts';
import { listenAt } from '../../../src/shared/ipc/socket.ts';
import { limits } from '../../../src/shared/limits.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { settle, temporaryDirectory } from '../../support/runs/unit.ts';
import { kitchen, rawConnection, serveKitchen, visit, visitOptions } from './setup.ts';

const hello = ['hello', 'kitchen', kitchen.version, { guest: 'raw' }];

describe('a request to a server', () => {
  it('is answered, and both sides have the hello of the other', async () => {
    const { path, server } = await serveKitchen();
    const peer = await visit(path);
    expect(peer.hello).toEqual({ cook: 'Ada' });
    expect([...server.peers].map((each) => each.hello)).toEqual([{ guest: 'Bo' }]);
    expect(await peer.request('cook', { dish: 'soup', afterMs: 0 })).toEqual({ dish: 'soup' });
  });

  it('gets its own answer among a thousand requests at the same time', async () => {
    const { path } = await serveKitchen();
    const peer = await visit(path);
    const dishes = Array.from({ length: 1000 }, (_, index) => `dish ${index}`);
    const answers = await Promise.all(
      dishes.map((dish, index) => peer.request('cook', { dish, afterMs: (index * 7) % 5 })),
    );
    expect(answers.map(({ dish }) => dish)).toEqual(dishes);
  });

  it('passes several MiB of bytes unchanged', async () => {
    const { path } = await serveKitchen();
    const peer = await visit(path);
    expect(await peer.request('weigh', { what: Buffer.alloc(9_000_000, 1) })).toBe(9_000_000);
  });

  it('fails alone if it is too long for a frame, and the connection stays open', async () => {
    const { path } = await serveKitchen();
    const peer = await visit(path);
    const what = Buffer.alloc(limits.frameBytesMax);
    await expect(peer.request('weigh', { what })).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    expect(await peer.request('weigh', { what: Buffer.alloc(1) })).toBe(1);
  });

  it('reports progress in order while it runs', async () => {
    const { path, waits } = await serveKitchen();
    const peer = await visit(path);
    const seen: string[] = [];
    const answer = peer.request('wait', {}, { onProgress: (stage, text) => seen.push(`${stage}: ${text}`) });
    await eventually('the request is there', () => waits.length === 1);
    waits[0]?.context.progress('pull', 'one');
    waits[0]?.context.progress('pull', 'two');
    waits[0]?.answer('done');
    expect(await answer).toBe('done');
    expect(seen).toEqual(['pull: one', 'pull: two']);
    waits[0]?.context.progress('pull', 'after its end');
    await peer.request('cook', { dish: 'x', afterMs: 0 });
    expect(seen).toHaveLength(2);
  });

  it('fails with the code, hint and status that the handler threw', async () => {
    const kitchenServer = await serveKitchen();
    const peer = await visit(kitchenServer.path);
    kitchenServer.failWith = new BoxRunError('RESOURCE_EXCEEDED', 'no pan left', { hint: 'wash one', status: 418 });
    await expect(peer.request('fail', {})).rejects.toMatchObject({
      code: 'RESOURCE_EXCEEDED',
      message: 'no pan left',
      hint: 'wash one',
      status: 418,
    });
    kitchenServer.failWith = new TypeError('oh');
    await expect(peer.request('fail', {})).rejects.toMatchObject({ code: 'RUNTIME_ERROR', status: 500 });
    expect(peer.isOpen).toBe(true);
  });

  it('ends with TIMEOUT at its deadline, and its handler is aborted', async () => {
    const { path, waits } = await serveKitchen();
    const peer = await visit(path);
    await expect(peer.request('wait', {}, { timeoutMs: 30 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    await eventually('the handler is aborted', () => waits[0]?.context.signal.aborted === true);
    expect(peer.isOpen).toBe(true);
  });

  it('ends with CANCELED when it is canceled, and its handler is aborted', async () => {
    const { path, waits } = await serveKitchen();
    const peer = await visit(path);
    const stopping = new AbortController();
    const answer = peer.request('wait', {}, { signal: stopping.signal });
    await eventually('the request is there', () => waits.length === 1);
    stopping.abort();
    await expect(answer).rejects.toMatchObject({ code: 'CANCELED' });
    await eventually('the handler is aborted', () => waits[0]?.context.signal.aborted === true);
    waits[0]?.answer('too late'); // A late answer does no harm.
    expect(await peer.request('cook', { dish: 'x', afterMs: 0 })).toEqual({ dish: 'x' });
  });

  it('is not sent if it was canceled before', async () => {
    const { path, waits } = await serveKitchen();
    const peer = await visit(path);
    await expect(peer.request('wait', {}, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELED' });
    await peer.request('cook', { dish: 'x', afterMs: 0 });
    expect(waits).toHaveLength(0);
  });

  it('that makes something (waitAfterAbort) gets its result if the handler makes it in spite of the cancel', async () => {
    const { path, waits } = await serveKitchen();
    const peer = await visit(path);
    const stopping = new AbortController();
    const answer = peer.request('wait', {}, { signal: stopping.signal, waitAfterAbort: true });
    await eventually('the request is there', () => waits.length === 1);
    stopping.abort();
    await eventually('the handler is aborted', () => waits[0]?.context.signal.aborted === true);
    waits[0]?.answer('made after all');
    expect(await answer).toBe('made after all');
  });

  it('is refused with TOO_MANY_REQUESTS if too many are waiting', async () => {
    const { path, waits } = await serveKitchen();
    const peer = await visit(path);
    const waiting = Array.from({ length: limits.requestsPendingMax }, () => peer.request('wait', {}));
    await expect(peer.request('wait', {})).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' });
    for (const { answer } of waits) answer('ok');
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['ok']));
  });

  it('ends the connection but not the process if its answer does not fit the contract', async () => {
    const { path } = await serveKitchen();
    const peer = await visit(path);
    await expect(peer.request('misanswer', {})).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(peer.isOpen).toBe(false);
  });
});

describe('when one side is gone', () => {
  it('every waiting and every later request ends with UNAVAILABLE', async () => {
    const { path, server, waits } = await serveKitchen();
    const peer = await visit(path);
    const waiting = [peer.request('wait', {}), peer.request('wait', {})];
    await eventually('both are there', () => waits.length === 2);
    const outcomes = Promise.allSettled(waiting);
    await server.close();
    for (const outcome of await outcomes)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'UNAVAILABLE' } });
    await peer.closed;
    await expect(peer.request('cook', { dish: 'x', afterMs: 0 })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('the handlers of a client are aborted, and the server is notified', async () => {
    const { path, server, waits, events } = await serveKitchen();
    const peer = await visit(path);
    peer.request('wait', {}).catch(() => undefined);
    await eventually('the request is there', () => waits.length === 1);
    peer.close('enough');
    await eventually('the handler is aborted', () => waits[0]?.context.signal.aborted === true);
    await eventually('the server knows', () => events.includes('disconnect Bo'));
    expect(server.peers.size).toBe(0);
    expect(events).toEqual(['connect Bo', 'disconnect Bo']);
    waits[0]?.answer('to nobody');
    await settle();
  });

  it('a client gets UNAVAILABLE at once if there is no server', async () => {
    const path = join(temporaryDirectory(), 'nobody.sock');
    await expect(connectContract(visitOptions(path))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('a server closes at once, even with connected clients', async () => {
    const { path, server } = await serveKitchen();
    await visit(path);
    const silent = rawConnection(path);
    await eventually('it is connected', () => !silent.socket.connecting);
    await settle();
    const from = performance.now();
    await server.close();
    expect(performance.now() - from).toBeLessThan(limits.helloTimeoutMs / 2);
  });
});

describe('a notice', () => {
  it('arrives in order between answers', async () => {
    const { path, server } = await serveKitchen();
    const bells: number[] = [];
    const peer = await visit(path, bells);
    for (let count = 0; count < 100; count++) for (const each of server.peers) each.notify('bell', { count });
    await peer.request('cook', { dish: 'x', afterMs: 0 });
    expect(bells).toEqual(Array.from({ length: 100 }, (_, index) => index));
  });

  it('counts as buffered in the server until the client reads it', async () => {
    const { path, server } = await serveKitchen();
    const raw = rawConnection(path);
    raw.send(hello);
    await eventually('it is greeted', () => server.peers.size === 1);
    raw.socket.pause();
    const [peer] = server.peers;
    expect(peer?.bufferedBytes()).toBe(0);
    for (let count = 0; count < 100_000; count++) peer?.notify('bell', { count });
    await settle();
    expect(peer?.bufferedBytes()).toBeGreaterThan(500_000);
  });
});

describe('a client loses its connection and disturbs no other client', () => {
  const cases: Record<string, unknown[]> = {
    'no hello first': [['request', 1, 'wait', 100, {}, null]],
    'a hello that does not fit': [['hello', 'kitchen', kitchen.version, { guest: 7 }]],
    'a hello of another contract': [['hello', 'cellar', kitchen.version, { guest: 'x' }]],
    'an unknown method': [hello, ['request', 1, 'burn', 100, {}, null]],
    'a method every object has': [hello, ['request', 1, 'constructor', 100, {}, null]],
    'parameters that do not fit': [hello, ['request', 1, 'cook', 100, { dish: 1, afterMs: 0 }, null]],
    'text where bytes belong': [hello, ['request', 1, 'weigh', 100, { what: 'text' }, null]],
    'a message of unknown form': [hello, { not: 'a list' }],
    'a message that only servers send': [hello, ['result', 1, null]],
    'a second hello': [hello, hello],
  };
  for (const [name, messages] of Object.entries(cases)) {
    it(`if it breaks the rules: ${name}`, async () => {
      const { path } = await serveKitchen();
      const other = await visit(path);
      const raw = rawConnection(path);
      for (const message of messages) raw.send(message);
      await raw.closed();
      expect(await other.request('cook', { dish: 'bread', afterMs: 0 })).toEqual({ dish: 'bread' });
    });
  }

  it('if it sends garbage, or a frame that is too long', async () => {
    const { path } = await serveKitchen();
    const other = await visit(path);
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from([0, 0, 0, 3, 0xc1, 0xc1, 0xc1])]) {
      const raw = rawConnection(path);
      raw.sendBytes(bytes);
      await raw.closed();
    }
    expect(await other.request('cook', { dish: 'bread', afterMs: 0 })).toEqual({ dish: 'bread' });
  });

  it('if it sends no hello in time', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { path } = await serveKitchen();
    const raw = rawConnection(path);
    let closed = false;
    raw.socket.on('close', () => {
      closed = true;
    });
    await new Promise((resolve) => raw.socket.once('connect', resolve));
    await settle(20);
    await vi.advanceTimersByTimeAsync(limits.helloTimeoutMs - 1);
    await settle(20);
    expect(closed).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    while (!closed) await settle(1);
  });
});

describe('two versions of a contract', () => {
  it('work together if they differ by one, in both directions', async () => {
    for (const version of [kitchen.version - 1, kitchen.version, kitchen.version + 1]) {
      const { path } = await serveKitchen({ version });
      const peer = await visit(path);
      expect(await peer.request('cook', { dish: 'old', afterMs: 0 })).toEqual({ dish: 'old' });
    }
  });

  it('do not work together if they differ by more', async () => {
    for (const version of [kitchen.version - 2, kitchen.version + 2]) {
      const { path } = await serveKitchen({ version });
      await expect(connectContract(visitOptions(path))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    }
  });
});

describe('a server that breaks a rule', () => {
  async function serveRaw(answer: (message: unknown, socket: Socket) => void): Promise<string> {
    const path = join(temporaryDirectory(), 'raw.sock');
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      const decode = createFrameDecoder();
      socket.on('data', (piece) => {
        for (const message of decode(piece)) answer(message, socket);
      });
    });
    await listenAt(server, path);
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return path;
  }

  it('is disconnected at once if its first message is not a hello', async () => {
    for (const first of [
      ['result', 1, null],
      ['hello', 'cellar', 5, { cook: 'x' }],
      ['hello', 'kitchen', 9, { cook: 'x' }],
      ['hello', 'kitchen', 5, {}],
    ]) {
      const path = await serveRaw((_, socket) => socket.write(encodeFrame(first)));
      await expect(connectContract(visitOptions(path))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    }
  });

  it('is disconnected if it sends an unknown notice or one that does not fit', async () => {
    for (const notice of [
      ['notice', 'bell', { count: 'x' }],
      ['notice', 'gong', {}],
      ['notice', 'toString', {}],
      ['cancel', 1],
    ]) {
      const path = await serveRaw((message, socket) => {
        socket.write(
          encodeFrame((message as unknown[])[0] === 'hello' ? ['hello', 'kitchen', 5, { cook: 'x' }] : notice),
        );
      });
      const peer = await visit(path);
      await expect(peer.request('wait', {})).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    }
  });

  it('gives its callers a BoxRunError even if its error has an unknown form', async () => {
    const path = await serveRaw((message, socket) => {
      const [kind, id] = message as [string, number];
      socket.write(encodeFrame(kind === 'hello' ? ['hello', 'kitchen', 5, { cook: 'x' }] : ['error', id, null]));
    });
    const peer = await visit(path);
    await expect(peer.request('wait', {})).rejects.toBeInstanceOf(BoxRunError);
  });
});

describe('the socket of a server', () => {
  it('is private', async () => {
    const { path } = await serveKitchen();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('is replaced in one step, and stays when the old server closes', async () => {
    const first = await serveKitchen();
    const second = await serveKitchen({ path: first.path, hello: () => ({ cook: 'Successor' }) });
    await first.server.close();
    const peer = await visit(second.path);
    expect(peer.hello).toEqual({ cook: 'Successor' });
  });

  it('is refused with a hint if its path is too long for the kernel', async () => {
    const path = join(temporaryDirectory(), 'x'.repeat(100));
    await expect(serveKitchen({ path })).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      hint: expect.stringContaining('shorter') as unknown,
    });
  });
});
