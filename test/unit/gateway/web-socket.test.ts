// Tests WebSockets with real connections and a short time between pings. A client that answers stays connected, however
// idle it is, and one that does not answer is disconnected.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { controlledPromise } from '../../support/runs/unit.ts';
import { createUpgrade, type ClientSocket } from '../../../src/gateway/live/web-socket.ts';

const pingMs = 40;

async function serve(route: (client: ClientSocket) => Promise<void>, everyMs = pingMs): Promise<string> {
  const closing = new AbortController();
  const server = createServer();
  server.on(
    'upgrade',
    createUpgrade({
      guard: () => undefined,
      places: { take: () => undefined },
      route: () => ({ serve: route }),
      handle: () => undefined,
      closing: closing.signal,
      pingMs: everyMs,
    }),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    closing.abort();
    server.close();
    server.closeAllConnections();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

async function connect(url: string, autoPong: boolean): Promise<WebSocket> {
  const socket = new WebSocket(url, { autoPong });
  onTestFinished(() => {
    socket.terminate();
  });
  await once(socket, 'open');
  return socket;
}

it('a client that answers no ping is disconnected, and its handler is notified', async () => {
  let gone: (() => void) | null = null;
  const left = new Promise<void>((resolve) => {
    gone = resolve;
  });
  const url = await serve(async (client) => {
    client.gone.addEventListener('abort', () => gone?.());
    client.onMessage(async () => undefined);
  });
  const socket = await connect(url, false);
  const [code] = (await once(socket, 'close')) as [number];
  expect(code).toBe(1006); // There is no close frame, because the client would not read it.
  await left;
});

it('an idle client that answers pings stays connected, and bytes still pass both ways', async () => {
  const url = await serve(async (client) => {
    client.onMessage(async ({ data }) => client.send(data));
  });
  const socket = await connect(url, true);
  for (let ping = 0; ping < 10; ping++) await once(socket, 'ping');
  socket.send(Buffer.from('still here'));
  const [echo] = (await once(socket, 'message')) as [Buffer];
  expect(echo.toString()).toBe('still here');
});

it('a client stays connected while the gateway does not read, and so cannot see its answers', async () => {
  let take: () => void = () => undefined;
  const url = await serve(async (client) => {
    client.onMessage(async ({ data }) => {
      await new Promise<void>((resolve) => {
        take = resolve;
      });
      await client.send(data);
    });
  });
  const socket = await connect(url, true);
  socket.send(Buffer.from('slow'));
  for (let ping = 0; ping < 5; ping++) await once(socket, 'ping');
  take();
  const [echo] = (await once(socket, 'message')) as [Buffer];
  expect(echo.toString()).toBe('slow');
  for (let ping = 0; ping < 3; ping++) await once(socket, 'ping');
  expect(socket.readyState).toBe(WebSocket.OPEN);
});

it.each(['bytes', 'words'] as const)('sending more %s waits for a client that does not read', async (kind) => {
  const piece = Buffer.alloc(256 * 1024, 'x');
  const word = { type: 'stderr', data: piece.toString('base64') } as const;
  const tries = 200;
  let sent = 0;
  const url = await serve(async (client) => {
    for (; sent < tries; sent++) await (kind === 'bytes' ? client.send(piece) : client.sendMessage(word));
  });
  const socket = await connect(url, false);
  socket.pause();
  // The buffers of both sockets take some megabytes.
  let before = -1;
  while (sent !== before) {
    before = sent;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  expect(sent).toBeLessThan(tries);
});

it('a client whose answer to a ping waits behind a message stays connected', async () => {
  const taken = controlledPromise<void>();
  const work = controlledPromise<void>();
  const url = await serve(async (client) => {
    client.onMessage(async ({ data }) => {
      taken.resolve();
      await work.promise;
      await client.send(data);
    });
  });
  const socket = await connect(url, false);
  await once(socket, 'ping');
  socket.send(Buffer.from('before the pong'));
  await taken.promise; // From now on the gateway reads nothing, until it has finished the message.
  socket.pong();
  for (let ping = 0; ping < 3; ping++) await once(socket, 'ping');
  work.resolve();
  const [echo] = (await once(socket, 'message')) as [Buffer];
  expect(echo.toString()).toBe('before the pong');
});

it('the gateway keeps no answers to the pings of a client that does not read', { timeout: 60_000 }, async () => {
  const pings = 300_000;
  let taken = 0;
  const url = await serve(async (client) => {
    client.onMessage(async () => {
      taken++;
    });
  }, 60_000);
  const socket = await connect(url, false);
  socket.pause();
  for (let sent = 0; sent < pings; sent++) {
    socket.ping('x'.repeat(125));
    if (sent % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  socket.send('the last');
  await expect.poll(() => taken, { timeout: 30_000 }).toBe(1);
  let answers = 0;
  socket.on('pong', () => {
    answers++;
  });
  const closed = once(socket, 'close');
  socket.resume();
  socket.close();
  await closed;
  expect(answers).toBeLessThan(pings / 2);
});
