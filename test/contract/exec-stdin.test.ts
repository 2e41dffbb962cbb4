// Tests commands with input, terminals, users and signals over HTTP and WebSocket, through a real server and a real
// box.
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { collect } from '../support/servers/crash-server.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { openSocket } from '../support/servers/web-socket.ts';

let server: TestServer;
let box: string;

beforeAll(async () => {
  server = await startServer();
  box = (await server.client.create({ image: 'base' })).id;
});
afterAll(async () => {
  await server.close();
});

const start = async (body: object): Promise<{ id: string; box_id: string; status: string }> =>
  (await server.call({ method: 'POST', path: `/v1/boxes/${box}/exec`, body })).json as never;
const attach = (exec: string) => openSocket(`ws://127.0.0.1:${server.port}/v1/boxes/${box}/exec/${exec}/attach`);
const signal = (exec: string, name: unknown) =>
  server.call({ method: 'POST', path: `/v1/boxes/${box}/exec/${exec}:signal`, body: { signal: name } });

it('a client can send input and its end to a command, and gets all output with stderr apart', async () => {
  const exec = await start({ cmd: ['sh', '-c', 'echo early; md5sum; echo oops >&2; exit 4'], stdin: true });
  expect(exec.status).toBe('running');
  const socket = await attach(exec.id);
  const input = Buffer.alloc(3_000_000, 'abcdefg\n');
  for (let from = 0; from < input.length; from += 500_000) socket.type(input.subarray(from, from + 500_000));
  socket.control({ type: 'eof' });
  expect(await socket.closed).toBe(1000);
  expect(socket.text()).toBe(`early\n${createHash('md5').update(input).digest('hex')}  -\n`);
  expect(socket.controls).toEqual([
    { type: 'stderr', data: Buffer.from('oops\n').toString('base64') },
    { type: 'exit', code: 4 },
  ]);
});

it('a command goes on when its client leaves, and the next client gets all output again', async () => {
  const exec = await start({ cmd: ['sh', '-c', 'read a; echo "got $a"; read b; echo "and $b"'], stdin: true });
  const first = await attach(exec.id);
  first.type('one\n');
  await first.until(/got one\n/);
  first.socket.terminate();
  const second = await attach(exec.id);
  second.type('two\n');
  await second.closed;
  expect(second.text()).toBe('got one\nand two\n');
  const third = await attach(exec.id);
  await third.closed;
  expect(third.text()).toBe('got one\nand two\n');
  expect(third.controls).toEqual([{ type: 'exit', code: 0 }]);
});

it.each([false, true])(
  'input for a command that no longer reads is dropped, and other commands go on (terminal: %s)',
  async (tty) => {
    const beside = await start({ cmd: ['sh', '-c', 'while [ ! -e /root/over ]; do sleep 0.1; done; echo beside'] });
    for (let round = 0; round < 10; round += 1) {
      const exec = await start({ cmd: ['sh', '-c', 'echo up; read a; exec <&-; sleep 0.2; exit 3'], stdin: true, tty });
      const socket = await attach(exec.id);
      await socket.until(/up\r?\n/);
      // This is more than the pipe holds, so the worker is still writing when the command ends.
      for (let piece = 0; piece < 8; piece += 1) socket.type(Buffer.alloc(200_000, 'more\n'));
      await socket.closed;
      expect(socket.controls).toEqual([{ type: 'exit', code: 3 }]);
    }
    await start({ cmd: ['touch', '/root/over'] });
    expect((await collect(server.client, beside as never)).stdout).toBe('beside\n');
    await start({ cmd: ['rm', '/root/over'] });
  },
);

it('a command with a terminal sees its size and a new size', async () => {
  const exec = await start({
    cmd: ['sh', '-c', 'stty size; read a; stty size; [ -t 1 ] && echo "tty $TERM"'],
    tty: true,
    stdin: true,
    cols: 90,
    rows: 30,
  });
  const socket = await attach(exec.id);
  await socket.until(/30 90\r\n/);
  socket.control({ type: 'resize', cols: 132, rows: 50 });
  socket.type('\n');
  await socket.until(/50 132\r\ntty xterm-256color\r\n/);
  await socket.closed;
});

it('attach fails with an error when the command takes no input or does not exist', async () => {
  const exec = await start({ cmd: ['sleep', '1000'] });
  const socket = await attach(exec.id);
  await socket.closed;
  expect(socket.controls).toMatchObject([{ type: 'error', code: 'VALIDATION_ERROR' }]);
  const unknown = await attach('exec_aaaaaaaaaaaa');
  await unknown.closed;
  expect(unknown.controls).toMatchObject([{ type: 'error', code: 'EXEC_NOT_FOUND' }]);
  await server.client.cancelExec(box, exec.id);
});

it('a command runs as the requested user, in a directory that this user can enter', async () => {
  const show = ['sh', '-c', 'id -u; id -g; pwd'];
  const run = async (body: object) => collect(server.client, await start(body));
  expect((await run({ cmd: show, user: '1234:55', workdir: '/tmp' })).stdout).toBe('1234\n55\n/tmp\n');
  // The workdir of the box is /root, which other users cannot enter. A command without its own workdir starts in /.
  expect((await run({ cmd: show, user: '1234:55' })).stdout).toBe('1234\n55\n/\n');
  expect((await run({ cmd: show, user: '1234:55', env: { 'odd.name': '1' } })).stdout).toBe('1234\n55\n/\n');
  expect((await run({ cmd: show })).stdout).toBe('0\n0\n/root\n');
  const closed = await run({ cmd: show, user: '1234:55', workdir: '/root' });
  expect(closed).toMatchObject({ stdout: '', exit: { exitCode: 1 } });
  expect(closed.stderr).toContain('/root: Permission denied');
  expect(
    (await server.call({ method: 'POST', path: `/v1/boxes/${box}/exec`, body: { cmd: ['id'], user: 'no body' } }))
      .status,
  ).toBe(422);
  expect(
    (await server.call({ method: 'POST', path: `/v1/boxes/${box}/exec`, body: { cmd: ['id'], user: 'nobody_here' } }))
      .status,
  ).toBe(400);
});

it('a client can send a signal to a command, by name or number', async () => {
  for (const [given, code] of [
    ['TERM', 143],
    ['SIGINT', 130],
    [10, 138],
  ] as const) {
    const exec = await start({ cmd: ['sh', '-c', 'sleep 1000 & wait'] });
    expect((await signal(exec.id, given)).status).toBe(200);
    expect((await collect(server.client, exec)).exit.exitCode).toBe(code);
    expect((await signal(exec.id, given)).json.code).toBe('EXEC_ALREADY_FINISHED');
  }
  const exec = await start({ cmd: ['sleep', '1000'] });
  for (const wrong of ['NONE', 0, 65, null, '15x']) expect((await signal(exec.id, wrong)).status).toBe(422);
  expect((await signal('exec_aaaaaaaaaaaa', 'TERM')).status).toBe(404);
  await server.client.cancelExec(box, exec.id);
});
