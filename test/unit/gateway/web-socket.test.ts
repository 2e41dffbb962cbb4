// Pings on WebSockets, with real connections and a short time between them: who answers stays, however idle; who does not is cut.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { createUpgrade, type ClientSocket } from '../../../src/gateway/web-socket.ts';

const pingMs = 40;

async function serve(route: (client: ClientSocket) => Promise<void>): Promise<string> {
  const closing = new AbortController();
  const server = createServer();
  server.on('upgrade', createUpgrade({
    guard: () => undefined, route: () => route, handle: () => undefined, closing: closing.signal, pingMs,
  }));
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
  onTestFinished(() => { socket.terminate(); });
  await once(socket, 'open');
  return socket;
}

it('cuts a client that answers no ping, and tells its server', async () => {
  let gone: (() => void) | null = null;
  const left = new Promise<void>((resolve) => { gone = resolve; });
  const url = await serve(async (client) => {
    client.gone.addEventListener('abort', () => gone?.());
    client.onMessage(async () => undefined);
  });
  const socket = await connect(url, false);
  const [code] = (await once(socket, 'close')) as [number];
  expect(code).toBe(1006); // Without a farewell: it would not be read.
  await left;
});

it('keeps an idle client that answers, and still passes bytes both ways', async () => {
  const url = await serve(async (client) => {
    client.onMessage(async ({ data }) => client.send(data));
  });
  const socket = await connect(url, true);
  for (let ping = 0; ping < 10; ping++) await once(socket, 'ping');
  socket.send(Buffer.from('still here'));
  const [echo] = (await once(socket, 'message')) as [Buffer];
  expect(echo.toString()).toBe('still here');
});

it('keeps a client that it does not read from for a while: its answer cannot be seen', async () => {
  let take: () => void = () => undefined;
  const url = await serve(async (client) => {
    client.onMessage(async ({ data }) => {
      await new Promise<void>((resolve) => { take = resolve; });
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
