// Tests terminals with a small WebSocket server on a Unix socket: bytes, size, exit, errors, and closing. Also tests
// how the SDK finds a server.
import { createServer } from 'node:http';
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import { loadConfig } from '../../../src/shared/settings/config.ts';
import { makeStateDirectories } from '../../../src/shared/settings/state-dir.ts';
import { BoxRun, type Terminal } from '../../../src/sdk/index.ts';
import { findServer } from '../../../src/sdk/node.ts';
import { controlledPromise, temporaryDirectory } from '../../support/runs/unit.ts';
import { serve } from './setup.ts';

/** Starts a server that calls `handler` for each connection, and gives a client of it. */
async function serveTerminal(handler: (socket: WebSocket, url: string) => void): Promise<BoxRun> {
  const socketPath = join(temporaryDirectory(), 'a.sock');
  const server = createServer();
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket, request) => {
    handler(socket, request.url ?? '');
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const client = new BoxRun({ socketPath });
  onTestFinished(async () => {
    await client.close();
    for (const socket of sockets.clients) socket.terminate();
    server.close();
  });
  return client;
}

async function textOf({ output }: Terminal): Promise<string> {
  return new Response(output).text();
}

it('carries bytes, sizes and the exit code', async () => {
  const asked = controlledPromise<string>();
  const client = await serveTerminal((socket, url) => {
    asked.resolve(url);
    socket.on('message', (data: Buffer, isBinary) => {
      socket.send(Buffer.from(isBinary ? `typed ${data.toString()}` : `control ${data.toString()}`));
      if (isBinary && data.toString() === 'exit') socket.send('{"type":"exit","code":3}');
    });
  });
  const terminal = await client.attach('web', { shell: '/bin/sh', cols: 100, rows: 30, term: 'xterm' });
  expect(await asked.promise).toBe('/v1/boxes/web/attach?shell=%2Fbin%2Fsh&cols=100&rows=30&term=xterm');
  terminal.resize(120, 40);
  await terminal.write('exit');
  expect(await terminal.exited).toEqual({ exitCode: 3, error: null });
  expect(await textOf(terminal)).toBe('control {"type":"resize","cols":120,"rows":40}typed exit');
  await expect(terminal.write('more')).rejects.toMatchObject({ code: 'CANCELED' });
});

it('treats an undefined option as absent', async () => {
  const asked = controlledPromise<string>();
  const client = await serveTerminal((_, url) => {
    asked.resolve(url);
  });
  const terminal = await client.attach('web', {
    shell: undefined,
    cols: undefined,
    rows: 30,
    term: undefined,
    signal: undefined,
  });
  expect(await asked.promise).toBe('/v1/boxes/web/attach?rows=30');
  terminal.close();
});

it('carries the input of a command and the end of the input, and keeps stderr apart', async () => {
  const client = await serveTerminal((socket, url) => {
    socket.on('message', (data: Buffer, isBinary) => {
      if (isBinary) socket.send(Buffer.from(`${url} ${data.toString()}`));
      else socket.send(JSON.stringify({ type: 'stderr', data: data.toString('base64') }));
      if (!isBinary) socket.send('{"type":"exit","code":null,"error":"timed out"}');
    });
  });
  const terminal = await client.attachExec('web', 'exec_a');
  await terminal.write('typed');
  terminal.end();
  expect(await terminal.exited).toEqual({ exitCode: null, error: 'timed out' });
  expect(await textOf(terminal)).toBe('/v1/boxes/web/exec/exec_a/attach typed');
  expect(await new Response(terminal.errors).text()).toBe('{"type":"eof"}');
});

it('fails with the error from the server', async () => {
  const client = await serveTerminal((socket) => {
    socket.send('{"type":"error","code":"BOX_NOT_RUNNING","message":"it is stopped"}');
    socket.close();
  });
  const terminal = await client.attach('web');
  await expect(terminal.exited).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING', message: 'it is stopped' });
  await expect(textOf(terminal)).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
});

it('gives UNAVAILABLE if there is no connection or it is lost, and the reason if the server refuses it', async () => {
  const client = await serveTerminal((socket) => {
    socket.terminate();
  });
  const terminal = await client.attach('web');
  await expect(terminal.exited).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  const refusing = await serve((_request, response) => {
    response.writeHead(404).end('{"code":"BOX_NOT_FOUND","message":"no such box"}');
  });
  await expect(refusing.attach('web')).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
  const nobody = new BoxRun({ socketPath: join(temporaryDirectory(), 'nobody.sock') });
  await expect(nobody.attach('web')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await nobody.close();
});

it('closes when it is disposed, when its signal aborts, and when its output is canceled', async () => {
  let closed = 0;
  const allClosed = controlledPromise<void>();
  const client = await serveTerminal((socket) => {
    socket.on('close', () => {
      closed++;
      if (closed === 3) allClosed.resolve();
    });
  });
  const one = await client.attach('web');
  await one[Symbol.asyncDispose]();
  await expect(one.exited).rejects.toMatchObject({ code: 'CANCELED' });
  const controller = new AbortController();
  const two = await client.attach('web', { signal: controller.signal });
  controller.abort();
  await expect(two.exited).rejects.toMatchObject({ code: 'CANCELED' });
  await expect(client.attach('web', { signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELED' });
  const three = await client.attach('web');
  await three.output.cancel();
  await allClosed.promise;
});

it('closes open terminals, and those that are just being opened, when the client is closed', async () => {
  const closed = controlledPromise<void>();
  const client = await serveTerminal((socket, url) => {
    if (url.startsWith('/v1/boxes/web/')) socket.on('close', closed.resolve);
  });
  const terminal = await client.attach('web');
  const opening = client.attach('other');
  await client.close();
  const problem = { code: 'CANCELED', message: 'the client was closed' };
  await expect(opening).rejects.toMatchObject(problem);
  await expect(terminal.exited).rejects.toMatchObject(problem);
  await expect(textOf(terminal)).rejects.toMatchObject(problem);
  await closed.promise;
  await expect(client.attach('web')).rejects.toMatchObject(problem);
});

it('makes write() wait while much input is not sent yet', async () => {
  const received = controlledPromise<void>();
  let length = 0;
  const client = await serveTerminal((socket) => {
    socket.on('message', (data: Buffer) => {
      length += data.byteLength;
      if (length === 32 * 1024 * 1024) received.resolve();
    });
  });
  const terminal = await client.attach('web');
  let written = 0;
  const writing = (async () => {
    for (; written < 32; written++) await terminal.write(new Uint8Array(1024 * 1024));
  })();
  // Without an end of this turn of the event loop nothing is sent, so a write() that did not wait would write all.
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
  expect(written).toBeLessThan(32);
  await writing;
  await received.promise;
  terminal.close();
});

it('finds the server from the variables of the environment', () => {
  const home = temporaryDirectory();
  expect(findServer({ BOXRUN_SOCKET: '/a.sock', BOXRUN_PORT: '1' })).toEqual({ socketPath: '/a.sock' });
  expect(findServer({ BOXRUN_HOST: '::1', BOXRUN_PORT: '91', BOXRUN_STATE_DIR: home })).toEqual({
    url: 'http://[::1]:91',
  });
  expect(findServer({ BOXRUN_PORT: '91', BOXRUN_STATE_DIR: home })).toEqual({ url: 'http://127.0.0.1:91' });
  expect(findServer({ BOXRUN_STATE_DIR: home, BOXRUN_SOCKET: '' })).toEqual({ url: 'http://127.0.0.1:9090' });
});

it('finds the socket of a state directory whose path is too long for a socket', () => {
  const stateDir = join(temporaryDirectory(), ...Array.from({ length: 8 }, () => 'a directory with a long name'));
  makeStateDirectories(stateDir);
  const socketPath = loadConfig({ stateDir }, {}).socketPath ?? '';
  onTestFinished(() => {
    rmSync(dirname(socketPath), { recursive: true, force: true });
  });
  expect(findServer({ BOXRUN_STATE_DIR: stateDir })).toEqual({ url: 'http://127.0.0.1:9090' });
  writeFileSync(socketPath, '');
  expect(findServer({ BOXRUN_STATE_DIR: stateDir })).toEqual({ socketPath });
});
