// Tests the ports of a box on a real server: the list of what listens, and connections to one port.
import { request, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/sdk/index.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let box: Box;

beforeAll(async () => {
  server = await startServer();
  box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 256 });
});
afterAll(async () => {
  await server.close();
});

it('x', async () => {
  await server.client.startExec(box.id, { cmd: ['nc', '-ll', '-p', '8080', '-e', 'cat'] });
  const list = await server.call({ path: `/v1/boxes/${box.id}/ports?port=8080&wait=20` });
  console.log(list.status, list.text);
  const t0 = performance.now();
  const [response, socket] = await new Promise<[IncomingMessage, Socket]>((resolve, reject) => {
    const sent = request({ socketPath: server.socketPath, path: `/v1/boxes/${box.id}/ports/8080`, headers: { connection: 'upgrade', upgrade: 'tcp' } });
    sent.on('upgrade', (r, s) => resolve([r, s as Socket]));
    sent.on('response', (r) => { r.resume(); reject(new Error(String(r.statusCode))); });
    sent.on('error', reject);
    sent.end();
  });
  console.log(response.statusCode, performance.now() - t0);
  socket.end('hello');
  let text = '';
  for await (const piece of socket) text += piece;
  console.log(JSON.stringify(text));
  const late = await server.call({ path: `/v1/boxes/${box.id}/ports?port=8081&wait=1` });
  console.log(late.status, late.text);
  expect(1).toBe(1);
}, 60_000);
