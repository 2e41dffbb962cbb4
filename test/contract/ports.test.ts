// Tests the ports of a box on a real server: the list of what listens, connections in every way, their ends, and their
// bounds. The box has no network.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import { BoxRun, type Box } from '../../src/sdk/index.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';
import { openSocket } from '../support/servers/web-socket.ts';

let server: TestServer;
let box: Box;
const small = { image: 'base', cpu: 1, memory_mb: 256 };
const megabytes = 20;

beforeAll(async () => {
  server = await startServer();
  box = await server.client.create(small);
  await listen(box, 8080, 'cat');
  const program = join(server.stateDir, 'tcp-server');
  execFileSync('cc', ['-static', '-O1', '-o', program, join(import.meta.dirname, '../fixtures/tcp-server.c')]);
  await server.client.upload(box.id, program, '/tcp-server', { mode: 0o755 });
});
afterAll(async () => {
  await server.close();
});

/** Each connection to the port becomes the input and output of one `program`. */
async function listen(where: Box, port: number, program: string): Promise<void> {
  await server.client.startExec(where.id, { cmd: ['nc', '-ll', '-p', String(port), '-e', 'sh', '-c', program] });
  await server.client.ports(where.id).wait(port);
}

/** A program of the fixtures listens; see tcp-server.c. */
async function serve(address: string, port: number, ...mode: readonly string[]): Promise<void> {
  await server.client.startExec(box.id, { cmd: ['/tcp-server', address, String(port), ...mode] });
  await server.client.ports(box.id).wait(port);
}

const dial = async (port: number, where = box): Promise<Duplex> => {
  const connection = (await server.client.ports(where.id).connect(port)) as Duplex;
  onTestFinished(() => {
    connection.destroy();
  });
  return connection;
};

async function readAll(connection: Duplex): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of connection) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

const connectionsIn = async (where: Box): Promise<number> => {
  const { stdout } = await server.client.exec(where.id, ['sh', '-c', 'grep -c "" /proc/net/tcp /proc/net/tcp6']);
  return stdout.split('\n').reduce((sum, line) => sum + Number(line.split(':')[1] ?? 0), 0);
};

describe('the list', () => {
  it('names port, address, process and command of what listens, and nothing else', async () => {
    await serve('127.0.0.1', 9, 'echo', 'a b');
    const { list } = await server.call({ path: `/v1/boxes/${box.id}/ports` });
    const processes = await server.client.processes(box.id);
    const pid = processes.find(({ command }) => command.endsWith(' echo a b'))?.pid;
    expect(list).toMatchObject([
      { port: 9, address: '127.0.0.1', pid, command: '/tcp-server 127.0.0.1 9 echo a b' },
      { port: 8080, address: '::', command: 'nc -ll -p 8080 -e sh -c cat' },
    ]);
  });

  it('does not name a process of another user than root', async () => {
    await server.client.startExec(box.id, { cmd: ['/tcp-server', '127.0.0.1', '2000', 'echo'], user: 'nobody' });
    expect(await server.client.ports(box.id).wait(2000)).toMatchObject({ port: 2000, pid: null, command: null });
  });

  it('waits until a process listens', async () => {
    const waiting = server.client.ports(box.id).wait(81, { timeoutS: 60 });
    await server.client.startExec(box.id, { cmd: ['sh', '-c', 'sleep 0.5; exec nc -ll -p 81 -e true'] });
    expect(await waiting).toMatchObject({ port: 81 });
  });

  it('says that nothing listened in time, and refuses a wait without a port or for too long', async () => {
    const path = `/v1/boxes/${box.id}/ports`;
    expect(await server.call({ path: `${path}?port=82&wait=0.2` })).toMatchObject({
      status: 400,
      json: { code: 'TIMEOUT', message: 'no process of the box listens at port 82 after 0.2 s' },
    });
    for (const query of ['wait=1', 'port=80', 'port=0&wait=1', 'port=80&wait=301', 'port=x&wait=1'])
      expect(await server.call({ path: `${path}?${query}` })).toMatchObject({ status: 422 });
  });

  it('ends the wait of a client that has gone, and of a box that is stopped', async () => {
    const own = await server.client.create(small);
    const controller = new AbortController();
    const ports = server.client.ports(own.id);
    const left = ports.wait(5, { timeoutS: 300, signal: controller.signal });
    const running = async () => (await server.client.exec(own.id, ['sh', '-c', 'ps | grep -c "[s]leep 0.05"'])).stdout;
    await eventually('the box looks for the port', async () => (await running()) !== '0\n');
    controller.abort();
    await expect(left).rejects.toMatchObject({ code: 'CANCELED' });
    await eventually('the box looks no longer', async () => (await running()) === '0\n');
    const stopped = ports.wait(5, { timeoutS: 300 });
    stopped.catch(() => undefined);
    await eventually('the box looks for the port', async () => (await running()) !== '0\n');
    await server.client.stopBox(own.id, { graceS: 0 });
    await expect(stopped).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    await expect(ports.list()).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    await expect(ports.connect(80)).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    await server.client.removeBox(own.id);
  });
});

describe('a connection', () => {
  it(`carries ${megabytes} MB both ways at once, and both directions end by themselves`, async () => {
    const sent = randomBytes(megabytes * 1_000_000);
    const connection = await dial(8080);
    const back = readAll(connection);
    connection.end(sent);
    expect((await back).equals(sent)).toBe(true);
  });

  it('stays open for the answer after the client has ended its direction', async () => {
    await listen(box, 83, 'n=$(cat | wc -c); echo "got $n"');
    const connection = await dial(83);
    connection.end(Buffer.alloc(100_000));
    expect(await text(connection)).toBe('got 100000\n');
  });

  it('stays open for the client after the box has ended its direction', async () => {
    await serve('127.0.0.1', 84, 'half', '/tmp/late');
    const connection = await dial(84);
    let said = '';
    // Without the option, the loop would close the connection at its end.
    for await (const piece of connection.iterator({ destroyOnReturn: false })) said += String(piece);
    expect(said).toBe('first\n');
    connection.end('second');
    await eventually('the box has the rest', async () => {
      const { stdout } = await server.client.exec(box.id, ['cat', '/tmp/late']);
      return stdout === 'second';
    });
  });

  it('that breaks in the box is no end for the client', async () => {
    await serve('127.0.0.1', 87, 'reset');
    const overTcp = new BoxRun({ url: `http://127.0.0.1:${server.port}` });
    const connection = (await overTcp.ports(box.id).connect(87)) as Duplex;
    connection.write('x');
    await expect(readAll(connection)).rejects.toMatchObject({ code: 'ECONNRESET' });
    await overTcp.close();
    const socket = await openSocket(`ws://127.0.0.1:${server.port}/v1/boxes/${box.id}/ports/87`);
    await socket.until(/first\n/); // A reset drops what was not read.
    socket.type('x');
    expect(await socket.closed).toBe(1011);
    expect(socket.controls).toMatchObject([{ type: 'error', code: 'RUNTIME_ERROR' }]);
  });

  it('slows down a sender in the box whose bytes are not read, and loses none', async () => {
    await listen(box, 85, 'head -c 40000000 /dev/zero; echo end >/tmp/sent; sleep 600');
    const connection = await dial(85);
    const seen = await server.client.exec(box.id, ['sh', '-c', 'sleep 1; cat /tmp/sent']);
    expect(seen).toMatchObject({ exitCode: 1, stdout: '' });
    let bytes = 0;
    for await (const piece of connection) if ((bytes += (piece as Buffer).length) === 40_000_000) break;
    expect(bytes).toBe(40_000_000);
  });

  it('goes over a WebSocket, and the message eof ends a direction', async () => {
    const url = `ws://127.0.0.1:${server.port}/v1/boxes/${box.id}/ports/8080`;
    const socket = await openSocket(url);
    socket.type('hello');
    await socket.until(/hello/);
    socket.control({ type: 'eof' });
    expect(await socket.closed).toBe(1000);
    expect(socket.controls).toEqual([{ type: 'eof' }]);
    const wrong = await openSocket(url);
    wrong.control({ type: 'resize', cols: 1, rows: 1 });
    expect(await wrong.closed).toBe(1011);
    expect(wrong.controls).toMatchObject([{ type: 'error', code: 'VALIDATION_ERROR' }]);
  });

  it('is refused before it stands, with the reason', async () => {
    const { client } = server;
    const ports = client.ports(box.id);
    await expect(ports.connect(7)).rejects.toMatchObject({
      code: 'PORT_NOT_OPEN',
      message: 'no process of the box listens at port 7',
    });
    for (const host of ['8.8.8.8', '10.0.0.1', '0.0.0.0.0', 'localhost:80', 'example.com', '::ffff:8.8.8.8', '2000::1'])
      await expect(ports.connect(8080, { host })).rejects.toMatchObject({ code: 'VALIDATION_ERROR' });
    for (const port of [0, 65_536, Number.NaN])
      await expect(ports.connect(port)).rejects.toMatchObject({ code: 'VALIDATION_ERROR' });
    await expect(client.ports('nobody').connect(80)).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
    const plain = await server.call({ path: `/v1/boxes/${box.id}/ports/8080` });
    expect(plain).toMatchObject({ status: 426 });
    await expect(openSocket(`ws://127.0.0.1:${server.port}/v1/boxes/${box.id}/ports/7`)).rejects.toThrow('400');
    const foreign = { headers: { origin: 'http://example.com' } };
    const url = `ws://127.0.0.1:${server.port}/v1/boxes/${box.id}/ports/8080`;
    await expect(openSocket(url, foreign)).rejects.toThrow('403');
  });

  it('reaches an address of the box, and the one loopback address at which a process listens', async () => {
    await serve('::1', 86, 'echo');
    const connections = [
      await dial(86),
      (await server.client.ports(box.id).connect(8080, { host: '127.0.0.5' })) as Duplex,
      (await server.client.ports(box.id).connect(8080, { host: '::1' })) as Duplex,
    ];
    for (const connection of connections) {
      connection.end('x');
      expect(await text(connection)).toBe('x');
    }
  });

  it('is in no list of commands or processes, and leaves nothing in the box', async () => {
    const own = await server.client.create(small);
    await listen(own, 80, 'cat');
    const before = await connectionsIn(own);
    const connection = await dial(80, own);
    connection.write('x');
    await once(connection, 'data');
    expect(await server.client.listExecs(own.id)).toHaveLength(2);
    expect((await server.client.processes(own.id)).filter(({ command }) => command.includes('connect'))).toEqual([]);
    connection.destroy();
    await eventually('the connection is gone', async () => {
      const { stdout } = await server.client.exec(own.id, ['sh', '-c', 'ps -o args | grep -c "[a]gent connect"']);
      return stdout === '0\n';
    });
    expect(await connectionsIn(own)).toBeLessThanOrEqual(before + 1); // One may be in TIME_WAIT.
    await server.client.removeBox(own.id, { force: true });
  });

  it('ends when the box is stopped, and when its worker is killed', async () => {
    const own = await server.client.create(small);
    await listen(own, 80, 'cat');
    const overTcp = `ws://127.0.0.1:${server.port}/v1/boxes/${own.id}/ports/80`;
    const killed = await openSocket(overTcp);
    killed.type('a');
    await killed.until(/a/);
    process.kill((await processOf(server.stateDir, 'worker', own.id)).pid, 'SIGKILL');
    expect(await killed.closed).toBe(1011);
    expect(killed.controls).toMatchObject([{ type: 'error', code: 'UNAVAILABLE' }]);
    const next = await eventually('the box takes connections again', () => openSocket(overTcp).catch(() => null));
    await eventually('the earlier connection has left the box', async () => {
      const { stdout } = await server.client.exec(own.id, ['sh', '-c', 'ps -o args | grep -c "[a]gent connect"']);
      return stdout === '1\n';
    });
    await server.client.stopBox(own.id, { graceS: 0 });
    expect(await next.closed).toBe(1011);
    expect(next.controls).toMatchObject([{ type: 'error', code: 'BOX_NOT_RUNNING' }]);
    await server.client.removeBox(own.id);
  });

  it('is refused at the bound of the box, and commands go on', async () => {
    const own = await server.client.create(small);
    await listen(own, 80, 'cat');
    const open: Duplex[] = [];
    for (let at = 0; at < limits.portConnectionsMax; at += 16)
      open.push(...(await Promise.all(Array.from({ length: 16 }, () => dial(80, own)))));
    await expect(dial(80, own)).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' });
    await expect(server.client.ports(own.id).list()).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' });
    expect((await server.client.exec(own.id, ['echo', 'alive'])).stdout).toBe('alive\n');
    for (const connection of open) connection.end();
    await Promise.all(open.map(readAll));
    await eventually('there is room again', () => dial(80, own).catch(() => null));
    await server.client.removeBox(own.id, { force: true });
  });
});

describe('boxrun forward', () => {
  it('lets local ports lead to ports of the box until it is interrupted', async () => {
    const child = spawn(process.execPath, [cliBundle, 'forward', box.id, '0:8080', '0:7'], { env: server.env });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    const said = { stdout: '', stderr: '' };
    child.stdout.on('data', (piece) => (said.stdout += String(piece)));
    child.stderr.on('data', (piece) => (said.stderr += String(piece)));
    const [, first, second] = await eventually('it listens', async () =>
      /^127\.0\.0\.1:(\d+) -> \S+:8080\n127\.0\.0\.1:(\d+) -> \S+:7\n$/.exec(said.stdout),
    );
    const sent = randomBytes(2_000_000);
    const local = connect(Number(first), '127.0.0.1');
    local.end(sent);
    expect((await readAll(local)).equals(sent)).toBe(true);
    const refused = connect(Number(second), '127.0.0.1');
    await expect(readAll(refused)).rejects.toMatchObject({ code: 'ECONNRESET' });
    await eventually('it says why', async () => said.stderr.includes('Error: [PORT_NOT_OPEN]'));
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([130, null]);
  });
});

it('connections work in a container without an agent, and a removed box ends boxrun forward', async () => {
  const other = await startServer({ env: { BOXRUN_AGENT: 'off' } });
  try {
    const own = await other.client.create(small);
    await other.client.startExec(own.id, { cmd: ['nc', '-ll', '-p', '80', '-e', 'cat'] });
    await own.ports.wait(80);
    const sent = randomBytes(1_000_000);
    const connection = (await own.ports.connect(80)) as Duplex;
    connection.end(sent);
    expect((await readAll(connection)).equals(sent)).toBe(true);
    const child = spawn(process.execPath, [cliBundle, 'forward', own.id, '0:80'], { env: other.env });
    await once(child.stdout, 'data');
    const [stderr, exit] = [text(child.stderr), once(child, 'exit')];
    await own.remove({ force: true });
    expect(await exit).toEqual([1, null]);
    expect(await stderr).toContain('Error: [BOX_NOT_FOUND]');
  } finally {
    await other.close();
  }
});
