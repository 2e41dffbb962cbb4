// Measures `boxrun forward`: bytes to and from a server in a box, and the time of one byte there and back. The
// reference is a relay of Node's `net` on the host, before the same server program on the host. Both sides have one
// Node process that listens for the client.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { BoxRun } from '../../src/sdk/index.ts';
import {
  compare,
  latency,
  ratioAtLeast,
  type Context,
  type Measure,
  type Round,
  type Suite,
} from '../support/measure.ts';
import { places } from '../support/places.ts';
import { withServer, type BenchServer } from '../support/server.ts';

/** The modes of the server program (test/fixtures/tcp-server.c), each at a port of its own. */
const modes = { echo: 7101, send: 7102, take: 7103 } as const;
type Mode = keyof typeof modes;
type Ports = Readonly<Record<Mode, number>>;

const bytesOfMode = (megabytes: number, mode: Mode) => (mode === 'send' ? [String(megabytes * 1e6)] : []);
const latencyMoreMsMax = 1;

export const forward: Suite = {
  name: 'forward',
  run: (context) => withServer(context, {}, (server) => measureAll(context, server)),
};

async function measureAll(context: Context, server: BenchServer): Promise<Measure[]> {
  const megabytes = context.isShort ? 64 : 256;
  const program = join(server.stateDir, 'tcp-server');
  const source = join(places.root, 'test/fixtures/tcp-server.c');
  if (spawnSync('cc', ['-static', '-O1', '-o', program, source], { stdio: 'inherit' }).status !== 0)
    throw new Error('the server program cannot be compiled');
  const children: ChildProcess[] = [];
  const client = new BoxRun({ socketPath: server.socketPath });
  try {
    const ours = await startForward(client, server, { program, megabytes, children });
    const reference = await startRelay({ program, megabytes, children });
    const bytes = (name: string, mode: Mode, move: (port: number, count: number) => Promise<void>) =>
      compare({
        name: `forward/${name}`,
        unit: 'MB/s',
        better: 'more',
        rounds: context.isShort ? 3 : 5,
        ours: () => timed(megabytes, () => move(ours[mode], megabytes * 1e6)),
        reference: () => timed(megabytes, () => move(reference[mode], megabytes * 1e6)),
        goal: ratioAtLeast(0.5),
      });
    context.say('bytes');
    const measures = [await bytes('from-box', 'send', receive), await bytes('to-box', 'take', send)];
    context.say('latency');
    const times = await compare({
      name: 'forward/latency',
      unit: 'ms',
      better: 'less',
      rounds: 3,
      ours: () => roundTrips(ours.echo),
      reference: () => roundTrips(reference.echo),
      goal: ({ ours: mine, reference: other }) => ({
        text: `≤ ${latencyMoreMsMax} ms more`,
        met: mine - (other ?? 0) <= latencyMoreMsMax,
      }),
    });
    return [...measures, times];
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await client.close();
  }
}

interface Programs {
  readonly program: string;
  readonly megabytes: number;
  readonly children: ChildProcess[];
}

async function startForward(
  client: BoxRun,
  server: BenchServer,
  { program, megabytes, children }: Programs,
): Promise<Ports> {
  const { id } = await server.createBox({ memory_mb: 256 });
  await client.upload(id, program, '/tcp-server', { mode: 0o755 });
  for (const [mode, port] of Object.entries(modes) as [Mode, number][]) {
    await client.startExec(id, ['/tcp-server', '127.0.0.1', String(port), mode, ...bytesOfMode(megabytes, mode)]);
    await client.ports(id).wait(port);
  }
  const words = ['forward', id, ...Object.values(modes).map((port) => `0:${port}`)];
  const env = { ...process.env, BOXRUN_SOCKET: server.socketPath };
  const child = spawn(process.execPath, [join(places.dist, 'cli.cjs'), ...words], { env });
  children.push(child);
  return portsOf(await linesOf(child, Object.keys(modes).length));
}

/** The relay prints its ports, too. */
const relay = `
const net = require('node:net');
for (const port of process.argv.slice(1)) {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    const far = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    for (const each of [near, far]) each.on('error', () => { near.destroy(); far.destroy(); });
    near.pipe(far).pipe(near);
  });
  server.listen(0, '127.0.0.1', () => console.log('127.0.0.1:' + server.address().port + ' -> relay:' + port));
}`;

async function startRelay({ program, megabytes, children }: Programs): Promise<Ports> {
  for (const [mode, port] of Object.entries(modes) as [Mode, number][])
    children.push(spawn(program, ['127.0.0.1', String(port), mode, ...bytesOfMode(megabytes, mode)]));
  const child = spawn(process.execPath, ['-e', relay, ...Object.values(modes).map(String)]);
  children.push(child);
  return portsOf(await linesOf(child, Object.keys(modes).length));
}

async function linesOf({ stdout }: ChildProcess, count: number): Promise<string[]> {
  let text = '';
  for await (const piece of stdout ?? []) {
    text += String(piece);
    if (text.split('\n').length > count) break;
  }
  return text.trim().split('\n');
}

/** Finds the local port of each mode in lines such as `127.0.0.1:40001 -> web:7101`. */
function portsOf(lines: readonly string[]): Ports {
  const local = (mode: Mode) => {
    const line = lines.find((each) => each.endsWith(`:${modes[mode]}`)) ?? '';
    return Number(/:(\d+) ->/.exec(line)?.[1]);
  };
  return { echo: local('echo'), send: local('send'), take: local('take') };
}

async function timed(megabytes: number, move: () => Promise<void>): Promise<Round> {
  const startedAt = performance.now();
  await move();
  return { figure: megabytes / ((performance.now() - startedAt) / 1000) };
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  await once(socket, 'connect');
  return socket;
}

async function receive(port: number, count: number): Promise<void> {
  let bytes = 0;
  for await (const piece of await dial(port)) bytes += (piece as Buffer).length;
  if (bytes !== count) throw new Error(`${bytes} of ${count} bytes came`);
}

async function send(port: number, count: number): Promise<void> {
  const socket = await dial(port);
  const piece = Buffer.alloc(256 * 1024);
  for (let left = count; left > 0; left -= piece.length)
    if (!socket.write(piece.subarray(0, left))) await once(socket, 'drain');
  socket.end();
  let answer = '';
  for await (const part of socket) answer += String(part);
  if (answer !== 'taken\n') throw new Error(`the server answered '${answer}'`);
}

async function roundTrips(port: number): Promise<Round> {
  const socket = await dial(port);
  const round = await latency(1_000, async () => {
    socket.write('x');
    await once(socket, 'data');
  });
  socket.destroy();
  return round;
}
