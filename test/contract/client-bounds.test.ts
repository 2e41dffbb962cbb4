// Tests the bounds for one client on a real server: its connections, and its open requests on one connection. The
// server refuses more, and other clients are not affected.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const streamsMax = 10;
let server: TestServer;
const sockets: Socket[] = [];
beforeAll(async () => {
  server = await startServer({ args: ['--max-streams', String(streamsMax)] });
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(async () => {
  await server.close();
});

async function open(): Promise<Socket> {
  const socket = connect(server.port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

async function textOf(socket: Socket): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of socket) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

/** Asks through the Unix socket, because the server takes that for another client. */
const expectOthersServed = async () =>
  expect((await server.call({ path: '/v1/info', via: 'socket' })).status).toBe(200);

it('a connection above the bound gets a 429, and a new one works after another has ended', async () => {
  const most = streamsMax + limits.connectionsBesideStreamsMax;
  for (let count = 0; count < most; count++) await open();
  const text = await textOf(await open());
  expect(text).toMatch(/^HTTP\/1\.1 429 /);
  expect(text).toContain('"code":"TOO_MANY_REQUESTS"');
  await expectOthersServed();
  const [first] = sockets;
  const closed = once(first as Socket, 'close');
  first?.destroy();
  await closed;
  let status = 0;
  while (status !== 200)
    status = await server.call({ path: '/v1/info' }).then(
      (answer) => answer.status,
      () => 0,
    );
});

it('the server closes a connection with too many open requests', async () => {
  const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
  const exec = await server.client.startExec(box.id, ['sleep', '1000']);
  const wait = `GET /v1/boxes/${box.id}/exec/${exec.id}?wait=300 HTTP/1.1\r\nHost: localhost\r\n\r\n`;
  const socket = await open();
  socket.write(wait.repeat(2 * (streamsMax + limits.requestsBesideStreamsMax)));
  await new Promise((resolve) => {
    socket.once('close', resolve).resume();
  });
  await expectOthersServed();
  expect((await server.call({ path: '/v1/info' })).status).toBe(200);
});
