// Tests terminals of commands byte by byte, on a real server with the container driver. No byte is lost and none is
// added. A full terminal blocks only the program that writes to it, and nothing else in the box.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ExecBody } from '../../src/shared/api.ts';
import { collect } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { openSocket } from '../support/servers/web-socket.ts';

const slowMs = 30_000;
let server: TestServer;
let box: string;

beforeAll(async () => {
  server = await startServer();
  box = (await server.client.create({ image: 'base', cpu: 1, memory_mb: 256 })).id;
});
afterAll(async () => {
  await server.close();
});

const run = async (body: ExecBody) => collect(server.client, await server.client.startExec(box, body));
const openExec = (id: string) => openSocket(`ws+unix:${server.socketPath}:/v1/boxes/${box}/exec/${id}/attach`);

describe('the output of a terminal', () => {
  const lines = Array.from({ length: 3_000 }, (_, index) => `${index + 1}\r\n`).join('');
  const counting = { cmd: ['sh', '-c', 'seq 1 3000; echo THE-END'], tty: true };

  it.each([1, 6])('has every byte of the program and no other byte, with %i terminals at a time', async (atOnce) => {
    let left = 30;
    const work = async () => {
      for (; left > 0; left -= 1) expect((await run(counting)).stdout === `${lines}THE-END\r\n`).toBe(true);
    };
    await Promise.all(Array.from({ length: atOnce }, work));
  });

  it('has no other byte when the program ends at once', async () => {
    for (let round = 0; round < 20; round += 1)
      expect(await run({ cmd: ['echo', 'hi'], tty: true })).toMatchObject({ stdout: 'hi\r\n', stderr: '' });
  });

  it('is complete when the program closes the terminal long before it ends', async () => {
    const { stdout, exit } = await run({
      cmd: ['sh', '-c', 'echo bye; exec >/dev/null 2>&1 </dev/null; sleep 0.3; exit 3'],
      tty: true,
    });
    expect({ stdout, code: exit.exitCode }).toEqual({ stdout: 'bye\r\n', code: 3 });
  });

  it('ends with the command although a child of the command still has the terminal open', async () => {
    const { stdout, exit } = await run({ cmd: ['sh', '-c', 'trap "" HUP; sleep 600 & echo up; exit 4'], tty: true });
    expect({ stdout, code: exit.exitCode }).toEqual({ stdout: 'up\r\n', code: 4 });
  });
});

describe('a terminal', () => {
  it.each(['root', '1000:1000'])('belongs to the user of its command: %s', async (user) => {
    const cmd = ['sh', '-c', 'echo a >/dev/stdout; echo b >$(tty); stat -c "%u %a" $(tty); id -u'];
    const { stdout } = await run({ cmd, tty: true, user });
    const uid = user === 'root' ? '0' : '1000';
    expect(stdout).toBe(`a\r\nb\r\n${uid} 620\r\n${uid}\r\n`);
  });

  it('has the requested size before the command starts, and signals a new size', async () => {
    const cmd = ['sh', '-c', 'stty size; trap "stty size; exit 0" WINCH; while :; do sleep 0.1; done'];
    const exec = await server.client.startExec(box, { cmd, tty: true, stdin: true, cols: 91, rows: 31 });
    const socket = await openExec(exec.id);
    await socket.until(/^31 91\r\n/, slowMs);
    socket.control({ type: 'resize', cols: 132, rows: 50 });
    await socket.until(/50 132\r\n/, slowMs);
    expect(await socket.closed).toBe(1000);
  });

  it('ends its program at Ctrl-C while the program writes without end', async () => {
    const exec = await server.client.startExec(box, { cmd: ['yes'], tty: true, stdin: true });
    const socket = await openExec(exec.id);
    await socket.until(/(y\r\n){10000}/, slowMs);
    const typedAt = performance.now();
    socket.type('\x03');
    await socket.closed;
    expect(socket.controls).toEqual([{ type: 'exit', code: 130 }]);
    // The bound is wide because other tests run at the same time. On an idle machine it takes less than 1 s.
    expect(performance.now() - typedAt).toBeLessThan(8_000);
  });
});

describe('unread input of a terminal', () => {
  const text = 'a line of input\n'.repeat(4_000);
  const workers = async () =>
    (await processesOf(server.stateDir)).filter(({ box: id }) => id === box).map(({ pid }) => pid);

  it('waits until the program reads it, while other commands of the box go on', async () => {
    const before = await workers();
    const cmd = ['sh', '-c', 'stty -echo; echo up; while [ ! -e /tmp/read ]; do sleep 0.1; done; exec wc -l'];
    const exec = await server.client.startExec(box, { cmd, tty: true, stdin: true });
    const socket = await openExec(exec.id);
    await socket.until(/up\r\n/, slowMs);
    socket.type(text);
    for (let round = 0; round < 5; round += 1) expect((await run({ cmd: ['echo', 'beside'] })).stdout).toBe('beside\n');
    await run({ cmd: ['touch', '/tmp/read'] });
    socket.type('\x04');
    await socket.until(/^4000\r\n/, slowMs);
    await socket.closed;
    expect(await workers()).toEqual(before);
  });

  it('waits until a shell reads it, while other commands of the box go on', async () => {
    const before = await workers();
    const terminal = await openSocket(`ws+unix:${server.socketPath}:/v1/boxes/${box}/attach`);
    terminal.type('stty -echo; echo u""p; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo go""es\n');
    await terminal.until(/up\r\n/, slowMs);
    terminal.type(`${': a line of input\n'.repeat(4_000)}echo la""st\n`);
    for (let round = 0; round < 5; round += 1) expect((await run({ cmd: ['echo', 'beside'] })).stdout).toBe('beside\n');
    await run({ cmd: ['touch', '/tmp/go'] });
    await terminal.until(/goes\r\n/, slowMs);
    await terminal.until(/last\r\n/, slowMs);
    terminal.socket.terminate();
    await eventually(
      'its shell is gone',
      async () => (await run({ cmd: ['sh', '-c', 'ps | grep -c "[a]sh$"; true'] })).stdout === '0\n',
      slowMs,
    );
    expect(await workers()).toEqual(before);
  });
});
