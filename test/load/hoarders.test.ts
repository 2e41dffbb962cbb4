// Tests clients that request much and read nothing, or send much but never all of it, first one of each kind and then
// many at once. The memory of the gateway stays below its limit, and other clients are served meanwhile.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { expectBoundedMemory, openStuck } from '../support/load/load.ts';
import { addManyExecs, idsOfManyExecs } from '../support/servers/many-rows.ts';
import { eventually } from '../support/runs/eventually.ts';
import { resetPeaks } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const many = { box: 'box_manyexecs000', letter: 'm', execs: 1_000_000 };
const long = { box: 'box_longexecs000', letter: 'l', execs: 100, argument: 'x'.repeat(900_000) };

let server: TestServer;
let box = '';
const sockets: Socket[] = [];
beforeAll(async () => {
  server = await startServer();
  await addManyExecs(server, many);
  await addManyExecs(server, long);
  ({ id: box } = await server.client.create({ image: 'base', cpu: 1, memory_mb: 256, name: 'box' }));
}, 300_000);
/** Starts the server again, because the memory of a process that has held much does not shrink at once. */
beforeEach(async () => {
  await server.stop();
  await server.start();
  await resetPeaks(server.stateDir);
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await expectServed();
});
afterAll(async () => {
  await server.close();
}, 300_000);

/** Other clients do not wait for what a client hoards. */
async function expectServed(): Promise<void> {
  expect((await server.client.exec(box, ['echo', 'served'])).stdout).toBe('served\n');
}

async function openRaw(text: string): Promise<Socket> {
  const socket = connect(server.port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => undefined);
  socket.pause();
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

const head = (line: string, ...more: string[]) => `${[line, 'Host: 127.0.0.1', ...more].join('\r\n')}\r\n\r\n`;

const upgradeTo = (path: string) =>
  head(
    `GET /v1/boxes/box/${path}/attach HTTP/1.1`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  );
/** The head of one binary frame of 4,000,000 bytes, masked with zeros. */
const frameOf4MB = Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0x3d, 0x09, 0, 0, 0, 0, 0]);

/** The first bytes of the answer on a connection of openRaw. */
async function firstBytes(socket: Socket): Promise<string> {
  socket.resume();
  const [piece] = (await once(socket, 'data')) as [Buffer];
  return piece.toString('latin1');
}

it(
  'the gateway serves others while 60 clients do not read their lists of a million commands',
  { timeout: 300_000 },
  async () => {
    const stuck = [];
    for (let count = 0; count < 60; count++)
      stuck.push(await openStuck(server.port, `/v1/boxes/${many.box}/execs?n=${count}`));
    await expectServed();
    const whole = await server.call({ path: `/v1/boxes/${many.box}/execs`, via: 'socket' });
    expect(whole.list).toHaveLength(many.execs);
    expect((whole.list as { id: string }[]).map(({ id }) => id)).toEqual(idsOfManyExecs(many));
    await expectBoundedMemory(server.stateDir, '60 stuck lists of a million commands');
    for (const each of stuck) each.leave();
  },
);

it('the gateway serves others while clients do not read rows of nearly a megabyte', { timeout: 120_000 }, async () => {
  const path = `/v1/boxes/${long.box}/exec/exec_l00000000001`;
  // The kernel buffers megabytes for each connection. So each sends ten requests, which is more than that.
  const ten = head(`GET ${path} HTTP/1.1`).repeat(10);
  for (let count = 0; count < 100; count++) await openRaw(ten);
  for (let count = 0; count < 100; count++) await openRaw(head(`GET /v1/boxes/${long.box}/execs?n=${count} HTTP/1.1`));
  await expectServed();
  expect(JSON.stringify(await server.client.getExec(long.box, 'exec_l00000000001')).length).toBeGreaterThan(900_000);
  await expectBoundedMemory(server.stateDir, '1,100 long answers that nobody reads');
});

it('the gateway serves others while 500 bodies of requests do not end', { timeout: 120_000 }, async () => {
  const begun = head('POST /v1/boxes/box/exec HTTP/1.1', 'Content-Type: application/json', 'Content-Length: 1000000');
  for (let count = 0; count < 500; count++) await openRaw(`${begun}{"cmd":["${'x'.repeat(900_000)}`);
  const late = await openRaw(begun);
  expect(await firstBytes(late)).toMatch(/^HTTP\/1\.1 429 /);
  await expectServed();
  await expectBoundedMemory(server.stateDir, '500 bodies without an end');
});

it('the gateway serves others while one connection sends 100,000 requests', { timeout: 120_000 }, async () => {
  const exec = await server.client.startExec(box, ['sleep', '1000']);
  const waits = head(`GET /v1/boxes/box/exec/${exec.id}?wait=300 HTTP/1.1`).repeat(1_000);
  const socket = await openRaw(waits);
  for (let count = 0; count < 100; count++) socket.write(waits);
  socket.resume();
  await new Promise((resolve) => socket.once('close', resolve));
  await expectServed();
  await expectBoundedMemory(server.stateDir, '100,000 requests on one connection');
  await server.client.cancelExec(box, exec.id);
});

it('the gateway serves others while 120 WebSocket messages do not end', { timeout: 120_000 }, async () => {
  const { id } = await server.client.startExec(box, { cmd: ['sleep', '1000'], stdin: true });
  let cut = 0;
  for (let count = 0; count < 120; count++) {
    const socket = await openRaw(upgradeTo(`exec/${id}`));
    socket.once('close', () => cut++);
    socket.resume();
    await once(socket, 'data');
    socket.write(frameOf4MB);
    socket.write(Buffer.alloc(3_900_000));
  }
  await eventually('most of them are cut', async () => cut >= 100, 60_000);
  await expectServed();
  await expectBoundedMemory(server.stateDir, '120 messages without an end');
  await server.client.cancelExec(box, id);
});

it('the gateway serves others while clients do not read much output on WebSockets', { timeout: 120_000 }, async () => {
  const exec = await server.client.startExec(box, ['sh', '-c', 'dd if=/dev/zero bs=1M count=64 | tr "\\0" x']);
  await eventually(
    'it has ended',
    async () => (await server.client.getExec(box, exec.id)).status !== 'running',
    60_000,
  );
  for (let count = 0; count < 200; count++) {
    await openRaw(upgradeTo(`exec/${exec.id}`));
    await openRaw(head(`GET /v1/boxes/box/exec/${exec.id}/events HTTP/1.1`));
  }
  for (let count = 0; count < 5; count++) await expectServed();
  await expectBoundedMemory(server.stateDir, '200 WebSockets and 200 event streams of much output');
});

it('the gateway serves others while clients do not read their downloads', { timeout: 120_000 }, async () => {
  await server.client.exec(box, ['sh', '-c', 'dd if=/dev/zero of=/root/large bs=1M count=32']);
  const body = '{"path": "/root/large"}';
  const asked = `${head('POST /v1/boxes/box/files/download HTTP/1.1', 'Content-Type: application/json', `Content-Length: ${body.length}`)}${body}`;
  for (let count = 0; count < 128; count++) await openRaw(asked);
  await expectServed();
  const late = await openRaw(asked);
  expect(await firstBytes(late)).toMatch(/^HTTP\/1\.1 429 /);
  await expectBoundedMemory(server.stateDir, '128 downloads that nobody reads');
});

it('the gateway serves others while clients do not read the long output of runs', { timeout: 120_000 }, async () => {
  const body = JSON.stringify({
    image: 'base',
    cpu: 1,
    memory_mb: 64,
    cmd: [
      'sh',
      '-c',
      'dd if=/dev/zero bs=1M count=20 | tr "\\0" "\\1"; dd if=/dev/zero bs=1M count=20 | tr "\\0" x >&2',
    ],
  });
  const asked = `${head('POST /v1/run HTTP/1.1', 'Content-Type: application/json', `Content-Length: ${body.length}`)}${body}`;
  for (let count = 0; count < 6; count++) await openRaw(asked);
  await eventually('their boxes are gone', async () => (await server.client.listBoxes()).length === 3, 60_000);
  const cut = await server.client.run({ image: 'base', cmd: ['echo', 'short'], cpu: 1, memory_mb: 64 });
  expect(cut.exit_code).toBe(0);
  await expectBoundedMemory(server.stateDir, '6 runs of much output');
  for (const socket of sockets.splice(0)) socket.destroy();
  await eventually('what they kept is free again', async () => {
    const { stdout } = await server.client.run({ image: 'base', cmd: ['echo', 'whole'], cpu: 1, memory_mb: 64 });
    return stdout === 'whole\n';
  });
});

it('the gateway serves others while one client reaches all of its bounds at once', { timeout: 300_000 }, async () => {
  const exec = await server.client.startExec(box, ['sh', '-c', 'dd if=/dev/zero bs=1M count=64 | tr "\\0" x']);
  const input = await server.client.startExec(box, { cmd: ['sleep', '1000'], stdin: true });
  await server.client.exec(box, ['sh', '-c', 'dd if=/dev/zero of=/root/large bs=1M count=32']);
  await eventually(
    'it has ended',
    async () => (await server.client.getExec(box, exec.id)).status !== 'running',
    60_000,
  );
  const download = '{"path": "/root/large"}';
  const asksDownload = `${head('POST /v1/boxes/box/files/download HTTP/1.1', 'Content-Type: application/json', `Content-Length: ${download.length}`)}${download}`;
  const begunBody = `${head('POST /v1/boxes/box/exec HTTP/1.1', 'Content-Type: application/json', 'Content-Length: 1000000')}{"cmd":["${'x'.repeat(900_000)}`;
  const longRow = head(`GET /v1/boxes/${long.box}/exec/exec_l00000000001 HTTP/1.1`).repeat(10);
  const message = Buffer.concat([frameOf4MB, Buffer.alloc(3_900_000)]);
  for (let count = 0; count < 300; count++) {
    await openRaw(upgradeTo(`exec/${exec.id}`));
    await openRaw(head(`GET /v1/boxes/box/exec/${exec.id}/events HTTP/1.1`));
    if (count < 30) (await openRaw(upgradeTo(`exec/${input.id}`))).write(message);
    if (count < 60) await openRaw(head(`GET /v1/boxes/${many.box}/execs?n=${count} HTTP/1.1`));
    if (count < 60) await openRaw(longRow);
    if (count < 60) await openRaw(begunBody);
    if (count < 128) await openRaw(asksDownload);
  }
  for (let count = 0; count < 5; count++) await expectServed();
  await expectBoundedMemory(server.stateDir, 'all bounds at once');
  await server.client.cancelExec(box, input.id);
});
