// Tests terminals over WebSocket, through a real server and a real box: input, output, size, job control, errors, and
// what happens when the client leaves.
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { collect } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { openSocket, type TestSocket } from '../support/servers/web-socket.ts';

let server: TestServer;
let box: string;

beforeAll(async () => {
  server = await startServer();
  box = (await server.client.create({ image: 'base', name: 'term' })).id;
});
afterAll(async () => {
  await server.close();
});

/** The shell of busybox asks for the position of the cursor after its prompt, so escape sequences may follow. */
const prompt = /[#$] (\x1b\[(6n|J))*$/;
const url = (query = '', target = box) => `ws://127.0.0.1:${server.port}/v1/boxes/${target}/attach${query}`;

async function shell(script: string): Promise<string> {
  const exec = await server.client.startExec(box, { cmd: ['sh', '-c', script] });
  return (await collect(server.client, exec)).stdout;
}

async function leave(terminal: TestSocket): Promise<void> {
  terminal.type('\x03exit\n');
  await terminal.closed;
}

it('a terminal begins with the requested size and TERM, and reports the exit code of its shell', async () => {
  const terminal = await openSocket(url('?cols=101&rows=33&term=vt100'));
  terminal.type('stty size; echo "[$TERM]"; tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all-""ttys\n');
  await terminal.until(/33 101\r\n\[vt100\]\r\n\/dev\/pts\/\d+\r\nall-ttys\r\n/);
  terminal.type('exit 7\n');
  expect(await terminal.closed).toBe(1000);
  expect(terminal.controls).toEqual([{ type: 'exit', code: 7 }]);
});

it('a program that asks for the size at once gets the requested size', async () => {
  await shell('printf "#!/bin/sh\\nstty size\\n" >/bin/size; chmod 755 /bin/size');
  const terminal = await openSocket(url('?shell=/bin/size&cols=99&rows=44'));
  await terminal.closed;
  expect(terminal.text()).toBe('44 99\r\n');
});

it('a resize changes the size of the terminal and signals the program', async () => {
  const terminal = await openSocket(url());
  terminal.type(`sh -c 'trap "echo changed; exit" WINCH; echo rea""dy; while :; do sleep 0.05; done'\n`);
  await terminal.until(/ready\r\n/);
  terminal.control({ type: 'resize', cols: 120, rows: 40 });
  await terminal.until(/changed/);
  terminal.type('stty size\n');
  await terminal.until(/40 120\r\n/);
  await leave(terminal);
});

it('a resize works before the shell has printed anything', async () => {
  const terminal = await openSocket(url('?cols=80&rows=24'));
  terminal.control({ type: 'resize', cols: 77, rows: 21 });
  await terminal.until(prompt);
  terminal.type('stty size\n');
  await terminal.until(/21 77\r\n/);
  await leave(terminal);
});

it('a shell runs programs in the background, brings them to the front and stops them', async () => {
  const terminal = await openSocket(url());
  const state = async () => (await shell("ps -o stat,args | grep '[s]leep 4001'")).trim().charAt(0);
  terminal.type('sleep 4001 &\n');
  await eventually('it runs in the background', async () => (await state()) === 'S');
  terminal.type('jobs\n');
  await terminal.until(/\[1\]\+? +Running +sleep 4001\r\n/);
  terminal.type('fg\n');
  await terminal.until(/fg\r\nsleep 4001\r\n/);
  terminal.type('\x1a');
  await terminal.until(/Stopped +sleep 4001/);
  expect(await state()).toBe('T');
  terminal.type('bg\n');
  await eventually('it runs again', async () => (await state()) === 'S');
  terminal.type('kill %1; wait; echo en""ded\n');
  await terminal.until(/ended\r\n/);
  expect(await state()).toBe('');
  await leave(terminal);
});

it('Ctrl-C interrupts a program, Ctrl-Z stops it, and Ctrl-D ends the shell', async () => {
  const terminal = await openSocket(url());
  terminal.type('sleep 1000; echo "code $?"\n');
  await eventually('it sleeps', async () => (await shell('ps')).includes('sleep 1000'));
  terminal.type('\x03');
  terminal.type('echo af""ter\n');
  await terminal.until(/after\r\n/);
  terminal.type('sleep 2000\n');
  await eventually('it sleeps', async () => (await shell('ps')).includes('sleep 2000'));
  terminal.type('\x1a');
  await terminal.until(/Stopped/);
  // Ends the stopped program in the foreground, because a shell with stopped programs ignores the first Ctrl-D.
  terminal.type('fg\n');
  await terminal.until(/fg\r\nsleep 2000\r\n/);
  terminal.type('\x03');
  terminal.type('echo do""ne\n');
  await terminal.until(/done\r\n/);
  await terminal.until(prompt); // Only now does the shell read: a Ctrl-D before the prompt does not end it.
  terminal.type('\x04');
  await terminal.closed;
  expect(terminal.controls.at(-1)).toMatchObject({ type: 'exit' });
});

it('the shell and all programs that it started are killed when the client leaves', async () => {
  const terminal = await openSocket(url());
  terminal.type('setsid sleep 3001 & sleep 3002 & (sleep 3003 &) ; sleep 3004\n');
  await eventually('all run', async () => (await shell('ps | grep -c "sleep 300[1-4]"')).trim() === '4');
  const leftAt = performance.now();
  terminal.socket.terminate();
  await eventually('none runs', async () => (await shell('ps | grep -c "sleep 300[1-4]"')).trim() === '0');
  expect(performance.now() - leftAt).toBeLessThan(2_000);
});

it('a program waits while the client does not read, and no output is lost', async () => {
  const terminal = await openSocket(url());
  await terminal.until(prompt);
  terminal.socket.pause();
  terminal.type('stty -opost; seq 1 2000000; echo the-""end\n');
  const position = async () =>
    (await shell('p=$(pidof seq) && cat /proc/$p/io 2>/dev/null | grep wchar || echo none')).trim();
  await eventually('seq runs', async () => (await position()).startsWith('wchar'), 30_000);
  let before = '';
  await eventually(
    'seq waits',
    async () => {
      const now = await position();
      const same = now === before && now !== 'none';
      before = now;
      await new Promise((resolve) => {
        setTimeout(resolve, 200);
      });
      return same;
    },
    30_000,
  );
  terminal.socket.resume();
  const all = await terminal.until(/\n1\n[\s\S]*the-end/, 30_000);
  expect(all.trim().split('\n').length).toBe(2_000_001);
  await leave(terminal);
});

it('a terminal takes 300,000 bytes of input at once', async () => {
  const terminal = await openSocket(url());
  terminal.type("stty raw -echo; echo rea''dy; head -c 300000 | md5sum\n");
  await terminal.until(/ready/);
  terminal.type('x'.repeat(300_000));
  await terminal.until(/[0-9a-f]{32}/);
  terminal.type('exit\r');
  await terminal.closed;
});

it('a terminal that cannot start sends an error with its code and closes', async () => {
  const stopped = await server.client.create({ image: 'base' });
  await server.client.stopBox(stopped.id);
  for (const [address, code] of [
    [url('', 'nobody'), 'BOX_NOT_FOUND'],
    [url('', stopped.id), 'BOX_NOT_RUNNING'],
    [url('?cols=0'), 'VALIDATION_ERROR'],
  ] as const) {
    const terminal = await openSocket(address);
    await terminal.closed;
    expect(terminal.controls).toEqual([{ type: 'error', code, message: expect.any(String) as string }]);
  }
  const terminal = await openSocket(url('?shell=/no/such'));
  await terminal.closed;
  expect(terminal.controls).toEqual([{ type: 'exit', code: 127 }]);
  await server.client.removeBox(stopped.id);
});

it('the server refuses a WebSocket of a foreign origin or on another path, and attach without an upgrade', async () => {
  const refusal = async (address: string, headers: Record<string, string> = {}) => {
    const socket = new WebSocket(address, { headers });
    const [, answer] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }];
    socket.on('error', () => undefined);
    socket.terminate();
    return answer.statusCode;
  };
  expect(await refusal(url(), { origin: 'http://evil.example' })).toBe(403);
  expect(await refusal(url(), { host: 'evil.example' })).toBe(403);
  expect(await refusal(`ws://127.0.0.1:${server.port}/v1/info`)).toBe(404);
  const own = await openSocket(url(), { headers: { origin: `http://127.0.0.1:${server.port}` } });
  await leave(own);
  expect((await server.call({ path: `/v1/boxes/${box}/attach` })).status).toBe(426);
  const plain = await server.call({
    path: '/v1/info',
    headers: { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c' },
  });
  expect({ status: plain.status, cpu: plain.json['max_cpu'] }).toEqual({ status: 200, cpu: 64 });
});

it('a terminal ends when its box is stopped', async () => {
  const other = await server.client.create({ image: 'base' });
  const terminal = await openSocket(url('', other.id));
  await terminal.until(prompt);
  await server.client.stopBox(other.id);
  await terminal.closed;
  expect(terminal.controls).toHaveLength(1);
  await server.client.removeBox(other.id);
});
