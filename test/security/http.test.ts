// Attacks on real servers over TCP: by pages in a browser, without the token, by other users of the host, and with
// malformed requests. Tests that are not attacks show what is allowed.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { BoxRun } from '../../src/sdk/index.ts';
import { attack, refusalOf } from '../support/security/attacks.ts';
import { processesOf } from '../support/host/processes.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

const token = 'tok-for-the-tests-0123456789';
let dir = '';
let open: TestServer;
let locked: TestServer;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-test-http-'));
  writeFileSync(join(dir, 'token'), `${token}\n`, { mode: 0o600 });
  open = await startServer({ args: ['--allow-host', 'box.example'] });
  locked = await startServer({ args: ['--token-file', join(dir, 'token'), '--log-level', 'trace'] });
});
afterAll(async () => {
  await locked.close();
  await open.close();
  rmSync(dir, { recursive: true, force: true });
});

const bearer = { authorization: `Bearer ${token}` };

async function webSocketRefusal(server: TestServer, headers: Record<string, string>): Promise<string> {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/v1/boxes/none/attach`, { headers });
  const [, answer] = (await once(socket, 'unexpected-response')) as [
    unknown,
    { statusCode: number; statusMessage: string },
  ];
  socket.on('error', () => undefined);
  socket.terminate();
  return `${answer.statusCode}`;
}

describe('a page in the browser', () => {
  test('of the server itself is allowed, with every name of the server', async () => {
    for (const name of ['localhost', '127.0.0.1', '[::1]', 'box.example', 'BOX.example']) {
      expect((await open.call({ path: '/v1/info', headers: { host: `${name}:${open.port}` } })).status).toBe(200);
    }
    expect(
      (await open.call({ method: 'POST', path: '/v1/gc', headers: { origin: `http://127.0.0.1:${open.port}` } }))
        .status,
    ).toBe(200);
  });

  for (const host of [
    'evil.example',
    'localhost.evil.example',
    'box.example.evil',
    '192.168.1.1:9090',
    'localhost:80:80',
  ]) {
    attack(`reaches the server as ${host} (DNS rebinding)`, async () =>
      refusalOf(await open.call({ path: '/v1/boxes', headers: { host } }), 'FORBIDDEN'),
    );
  }

  const commands = [
    ['POST', '/v1/boxes'],
    ['POST', '/v1/boxes/x:stop'],
    ['DELETE', '/v1/boxes/x'],
    ['POST', '/v1/boxes/x/exec'],
    ['POST', '/v1/run'],
    ['POST', '/v1/gc'],
    ['POST', '/v1/boxes/x/files/upload'],
    ['POST', '/v1/boxes/x/files/download'],
    ['POST', '/v1/boxes/x/exec/y:cancel'],
    ['POST', '/v1/ui/link'],
  ] as const;
  for (const [method, path] of commands) {
    attack(`of another origin sends ${method} ${path}`, async () => {
      for (const origin of ['null', `http://localhost:${open.port + 1}`])
        refusalOf(await open.call({ method, path, headers: { origin } }), 'FORBIDDEN');
      return refusalOf(await open.call({ method, path, headers: { origin: 'http://evil.example' } }), 'FORBIDDEN');
    });
  }

  attack('of another origin reads an answer', async () => {
    const { headers } = await open.call({ path: '/v1/boxes', headers: { origin: 'http://evil.example' } });
    expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
    const asked = await open.call({
      method: 'OPTIONS',
      path: '/v1/boxes',
      headers: { origin: 'http://evil.example', 'access-control-request-method': 'POST' },
    });
    expect(Object.keys(asked.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
    return 'no Access-Control header, so the browser does not show the answer';
  });

  attack('of another origin opens a terminal', async () => {
    const status = await webSocketRefusal(open, { origin: 'http://evil.example' });
    expect(status).toBe('403');
    expect(await webSocketRefusal(open, { host: 'evil.example' })).toBe('403');
    return status;
  });

  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'text/plain; application/json',
  ]) {
    attack(`sends a command as a form: ${type}`, async () =>
      refusalOf(
        await open.call({
          method: 'POST',
          path: '/v1/boxes',
          body: '{"image":"base"}',
          headers: { 'content-type': type },
        }),
        'UNSUPPORTED_MEDIA_TYPE',
      ),
    );
  }

  attack('frames the dashboard, or adds a script to it', async () => {
    const { headers } = await open.call({ path: '/ui' });
    expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
    expect(headers['content-security-policy']).toContain("default-src 'none'");
    return String(headers['content-security-policy']);
  });
});

describe('a client without the token', () => {
  for (const path of [
    '/v1/info',
    '/v1/boxes',
    '/healthz',
    '/readyz',
    '/ui',
    '/docs',
    '/openapi.json',
    '/nothing',
    '/ui/login/',
    '/ui/login%2f',
  ]) {
    attack(`requests ${path}`, async () => refusalOf(await locked.call({ path }), 'UNAUTHORIZED'));
  }

  attack('guesses the token', async () => {
    for (const authorization of [
      `Bearer ${token.slice(0, -1)}`,
      `Bearer ${token}1`,
      `Basic ${token}`,
      'Bearer',
      token,
    ]) {
      refusalOf(await locked.call({ path: '/v1/info', headers: { authorization } }), 'UNAUTHORIZED');
    }
    const answer = await locked.call({
      path: '/v1/info',
      headers: { authorization: 'Bearer wrong-wrong-wrong-wrong' },
    });
    expect(answer.headers['www-authenticate']).toBe('Bearer');
    return refusalOf(answer, 'UNAUTHORIZED');
  });

  attack('opens a terminal', async () => {
    const status = await webSocketRefusal(locked, {});
    expect(status).toBe('401');
    return status;
  });

  attack('sends the token in the query, or a POST to the login', async () => {
    refusalOf(await locked.call({ path: `/v1/info?token=${token}&access_token=${token}` }), 'UNAUTHORIZED');
    return refusalOf(await locked.call({ method: 'POST', path: '/ui/login?code=x' }), 'METHOD_NOT_ALLOWED');
  });

  test('is refused, while SDK, command line and terminal with the token, and the Unix socket, work', async () => {
    expect((await locked.call({ path: '/v1/info', headers: bearer })).status).toBe(200);
    expect((await locked.call({ path: '/v1/info', via: 'socket' })).status).toBe(200);
    const url = `http://127.0.0.1:${locked.port}`;
    await using client = new BoxRun({ url, token });
    expect(await client.info()).toMatchObject({ max_cpu: 64 });
    await using stranger = new BoxRun({ url });
    await expect(stranger.info()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await expect((await client.attach('none')).exited).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
    const env = { PATH: process.env['PATH'], HOME: dir, BOXRUN_HOST: '127.0.0.1', BOXRUN_PORT: `${locked.port}` };
    const cli = (extra: NodeJS.ProcessEnv) =>
      spawnSync(process.execPath, [cliBundle, 'ls'], { env: { ...env, ...extra }, encoding: 'utf8' });
    expect(cli({ BOXRUN_TOKEN: token })).toMatchObject({ status: 0 });
    const refused = cli({});
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining('[UNAUTHORIZED]')]);
  });
});

describe('a login link to the dashboard', () => {
  const linkOf = async () => {
    const { json } = await locked.call({ method: 'POST', path: '/v1/ui/link', headers: bearer });
    return new URL(String(json['url']));
  };
  const follow = (link: URL) => locked.call({ path: `${link.pathname}${link.search}` });

  test('logs one browser in, and this browser then needs no token', async () => {
    const printed = spawnSync(process.execPath, [cliBundle, 'ui'], { env: locked.env, encoding: 'utf8' });
    expect(printed.stdout).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/ui\/login\?code=[\w-]{32}\n$/);
    const answer = await follow(new URL(printed.stdout));
    expect([answer.status, answer.headers.location, answer.headers['cache-control']]).toEqual([302, '/ui', 'no-store']);
    const [cookie = ''] = answer.headers['set-cookie'] ?? [];
    expect(cookie).toMatch(/; HttpOnly; SameSite=Strict$/);
    const headers = { cookie: cookie.split(';')[0] ?? '' };
    expect((await locked.call({ path: '/ui', headers })).status).toBe(200);
    expect((await locked.call({ path: '/v1/boxes', headers })).status).toBe(200);
    refusalOf(
      await locked.call({ method: 'POST', path: '/v1/gc', headers: { ...headers, origin: 'http://evil.example' } }),
      'FORBIDDEN',
    );
    const forged = headers.cookie.replace(/=\d+/, '=99999999999999');
    refusalOf(await locked.call({ path: '/ui', headers: { cookie: forged } }), 'UNAUTHORIZED');
  });

  attack('is used a second time', async () => {
    const link = await linkOf();
    expect((await follow(link)).status).toBe(302);
    return refusalOf(await follow(link), 'FORBIDDEN');
  });

  attack('is guessed', async () => {
    const link = await linkOf();
    link.searchParams.set('code', `${link.searchParams.get('code') ?? ''}x`);
    return refusalOf(await follow(link), 'FORBIDDEN');
  });
});

describe('another user of the host', () => {
  attack('reads the token in processes, environments or logs', async () => {
    const pids = (await processesOf(locked.stateDir)).map(({ pid }) => pid);
    expect(pids.length).toBeGreaterThan(3);
    for (const pid of pids) {
      for (const file of ['cmdline', 'environ'])
        expect(readFileSync(`/proc/${pid}/${file}`, 'latin1')).not.toContain(token);
    }
    const logs = join(locked.stateDir, 'logs');
    for (const name of readdirSync(logs)) expect(readFileSync(join(logs, name), 'utf8')).not.toContain(token);
    return `the token is in none of ${pids.length} processes and ${readdirSync(logs).length} logs`;
  });

  attack('reads the token in the arguments of serve', async () => {
    const own = await startServer({
      args: ['--token', 'token-as-an-argument'],
      env: { BOXRUN_TOKEN: 'token-in-environment' },
    });
    try {
      for (const { pid } of await processesOf(own.stateDir)) {
        expect(readFileSync(`/proc/${pid}/cmdline`, 'latin1')).not.toContain('token-as-an-argument');
      }
      return 'it is no longer in the arguments when the server is up (serve warns: use --token-file)';
    } finally {
      await own.close();
    }
  });

  attack('uses the Unix socket, or reads the state directory', async () => {
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
    expect([mode(locked.socketPath), mode(locked.stateDir), mode(join(locked.stateDir, 'cookie.key'))]).toEqual([
      '600',
      '700',
      '600',
    ]);
    const script = `import{connect}from'node:net';connect(${JSON.stringify(locked.socketPath)}).on('error',(e)=>console.log(e.code)).on('connect',()=>console.log('in'))`;
    chmodSync(dir, 0o755);
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      uid: 65_534,
      gid: 65_534,
      encoding: 'utf8',
      cwd: '/',
    });
    expect(child.stdout.trim()).toBe('EACCES');
    return 'EACCES: socket 0600 in a directory 0700';
  });

  attack('finds a server on the network without a token', async () => {
    const state = join(dir, 'refused');
    for (const host of ['0.0.0.0', '::', '192.0.2.1', 'box.example']) {
      const child = spawn(process.execPath, [cliBundle, 'serve', '--host', host, '--port', '0'], {
        env: { PATH: process.env['PATH'], HOME: dir, BOXRUN_STATE_DIR: state, BOXRUN_DRIVER: 'container' },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let said = '';
      child.stderr.on('data', (piece: Buffer) => (said += piece.toString()));
      const [code] = (await once(child, 'close')) as [number];
      expect([code, said]).toEqual([1, expect.stringContaining('the server needs a token')]);
    }
    return 'serve exits 1: the server needs a token';
  });
});

describe('a client that sends malformed requests', () => {
  attack('adds headers to an answer with line breaks', async () => {
    const answer = await open.call({ path: '/v1/boxes?limit=1&label=a%0d%0aSet-Cookie:%20x=y' });
    expect(answer.headers['set-cookie']).toBeUndefined();
    const cursor = await open.call({ path: '/v1/boxes?limit=1&cursor=%0d%0aX-Evil:%201' });
    expect(cursor.headers['x-evil']).toBeUndefined();
    return refusalOf(cursor, 'VALIDATION_ERROR');
  });

  attack('smuggles a second request with two lengths or chunks', async () => {
    const answers = await Promise.all(
      [
        'POST /v1/gc HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ncontent-length: 40\r\n\r\nabcd',
        'POST /v1/gc HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/info HTTP/1.1\r\nhost: localhost\r\n\r\n',
      ].map((text) => raw(text)),
    );
    for (const text of answers) expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 400']);
    return '400, and the connection is closed';
  });

  attack('pollutes prototypes through JSON', async () =>
    refusalOf(
      await open.call({
        method: 'POST',
        path: '/v1/boxes',
        body: '{"__proto__":{"image":"base"},"constructor":{"prototype":{"image":"base"}}}',
      }),
      'VALIDATION_ERROR',
    ),
  );
});

async function raw(text: string): Promise<string> {
  const socket = connect(open.port, '127.0.0.1');
  socket.write(text);
  let said = '';
  socket.on('data', (piece: Buffer) => (said += piece.toString()));
  await once(socket, 'close');
  return said;
}
