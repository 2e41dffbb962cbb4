// Tests the proxy for ports of boxes on a real server: what reaches the box and what does not, who may use a port by
// its host name, and one-time links. The server has a token. The HTTP server in the box repeats the request that it
// gets.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request, type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BoxRun, type Box, type BoxRunClient } from '../../src/sdk/index.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const token = 'correct-horse-battery';
const bearer = { authorization: `Bearer ${token}` };
let server: TestServer;
let client: BoxRunClient;
let box: Box;
/** The host name of port 80 of the box, with the port of the server. */
let host: string;

/** For each connection of nc: answers with the head of the request as its body. */
const repeat = `
head=; length=0
while read -r line; do
  line=$(echo "$line" | tr -d '\\r')
  [ -n "$line" ] || break
  head="$head$line
"
  case $line in
    [Cc]ontent-[Ll]ength:*) length=\${line#*: } ;;
    [Uu]pgrade:*) upgrade=\${line#*: } ;;
  esac
done
if [ -n "$upgrade" ]; then
  printf 'HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: %s\\r\\nSet-Cookie: boxrun_x=1\\r\\n\\r\\n' "$upgrade"
  exec cat
fi
printf 'HTTP/1.1 200 Fine\\r\\nSet-Cookie: own=1\\r\\nSet-Cookie: boxrun_x=1\\r\\nKeep-Alive: timeout=5\\r\\nX-Own: 2\\r\\nX-Hop: 3\\r\\nConnection: X-Hop\\r\\n\\r\\n'
printf '%s' "$head"
[ "$length" = 0 ] || head -c "$length" | wc -c
`;

beforeAll(async () => {
  server = await startServer({ env: { BOXRUN_TOKEN: token }, args: ['--allow-host', 'boxes.test'] });
  client = new BoxRun({ url: `http://127.0.0.1:${server.port}`, token });
  box = await client.create({ image: 'base', cpu: 1, memory_mb: 256 });
  await client.startExec(box.id, { cmd: ['nc', '-ll', '-p', '80', '-e', 'sh', '-c', repeat] });
  const { url } = await client.ports(box.id).wait(80);
  host = new URL(url ?? '').host;
});
afterAll(async () => {
  await client.close();
  await server.close();
});

interface Asked {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Buffer;
  readonly via?: 'tcp' | 'socket';
}

interface Answered {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

async function ask({ method = 'GET', path = '/', headers = {}, body, via = 'tcp' }: Asked = {}): Promise<Answered> {
  const where = via === 'tcp' ? { host: '127.0.0.1', port: server.port } : { socketPath: server.socketPath };
  const sent = request({ ...where, method, path, headers: { host, ...headers }, agent: false });
  sent.end(body);
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, headers: answer.headers, text: await text(answer) };
}

/** The cookie of a browser that has opened the one-time link. */
async function cookieOf(port = 80): Promise<string> {
  const { url } = await client.ports(box.id).link(port);
  const { host: at, pathname, search } = new URL(url);
  const answer = await ask({ path: pathname + search, headers: { host: at } });
  expect(answer).toMatchObject({ status: 303, headers: { location: '/' } });
  const [cookie = ''] = answer.headers['set-cookie'] ?? [];
  expect(cookie).toMatch(/; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax$/);
  return cookie.split(';')[0] ?? '';
}

describe('the name', () => {
  it('is a lower-case label of the box with the port, at the name by which the client calls the server', async () => {
    expect(host).toMatch(/^80-[0-9a-f]{18}\.localhost:\d+$/);
    const headers = { ...bearer, host: 'boxes.test:8443', 'x-forwarded-proto': 'https' };
    const { text: body } = await ask({ path: `/v1/boxes/${box.id}/ports`, headers });
    expect(body).toContain(`"https://${host.replace(/\.localhost.*/, '')}.boxes.test:8443"`);
    expect((await ask({ headers: { ...bearer, host: host.replace(/localhost.*/, 'boxes.test') } })).status).toBe(200);
  });

  it('never leads to the API', async () => {
    for (const path of ['/v1/boxes', '/ui', '/healthz']) {
      const { text: body } = await ask({ path, headers: bearer });
      expect(body).toMatch(new RegExp(`^GET ${path} HTTP/1.1\n`));
    }
  });

  it.each(['80-0123456789abcdef01.localhost', '81-LABEL.localhost', '80-LABEL.LOCALHOST'])('%s', async (name) => {
    const label = host.replace(/^80-|\..*$/g, '');
    const answer = await ask({ headers: { ...bearer, host: name.replace('LABEL', label) } });
    const expected = name.startsWith('80-0') ? 404 : name.startsWith('81') ? 502 : 200;
    expect(answer.status).toBe(expected);
  });

  it.each([
    ['80-LABEL.example.com', 403],
    ['80-LABEL.localhost.example.com', 403],
    ['x.80-LABEL.localhost', 403],
    ['080-LABEL.localhost', 403],
    ['99999-LABEL.localhost', 403],
    ['LABEL.localhost', 403],
  ])('%s is no name of a port, and gets %i', async (name, status) => {
    const label = host.replace(/^80-|\..*$/g, '');
    expect((await ask({ headers: { ...bearer, host: name.replace('LABEL', label) } })).status).toBe(status);
  });
});

describe('a request', () => {
  it('reaches the box without the token, our cookies and headers of the connection', async () => {
    const cookie = await cookieOf();
    const headers = {
      ...bearer,
      'accept-language': 'de',
      cookie: `a=1; ${cookie}; boxrun_other=2; b=3`,
      te: 'trailers',
      'proxy-authorization': 'Basic eA==',
      'x-secret-hop': '1',
      connection: 'x-secret-hop, keep-alive',
    };
    const { status, text: body, headers: got } = await ask({ method: 'POST', path: '/a?b=%20c', headers });
    expect(status).toBe(200);
    expect(body.split('\n').filter((line) => line !== '')).toEqual(
      [
        'POST /a?b=%20c HTTP/1.1',
        `Host: ${host}`,
        'accept-language: de',
        'cookie: a=1;  b=3',
        'content-length: 0',
        'Connection: close',
      ].map(
        (line) =>
          expect.stringMatching(new RegExp(`^${line.replace(/[.?+]/g, '\\$&').replace('  ', ' +')}$`, 'i')) as string,
      ),
    );
    expect(got['set-cookie']).toEqual(['own=1']);
    expect(got).toMatchObject({ 'x-own': '2' });
    expect(got).not.toHaveProperty('x-hop');
    const own = await ask({ headers: { cookie, authorization: 'Bearer of-the-app' } });
    expect(own.text).toMatch(/^authorization: Bearer of-the-app$/im);
    expect(own.text).not.toContain('boxrun_');
  });

  it('carries a large body, and the answer of a box that never ends reaches the client as it comes', async () => {
    const body = randomBytes(5_000_000);
    const answer = await ask({ method: 'PUT', headers: { ...bearer, 'content-length': body.length }, body });
    expect(answer.text).toMatch(/\n5000000\n$/);
    const endless =
      'printf "HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\n\\r\\ndata: 1\\n\\n"; cat >/dev/null';
    await client.startExec(box.id, { cmd: ['nc', '-ll', '-p', '88', '-e', 'sh', '-c', endless] });
    await client.ports(box.id).wait(88);
    const sent = request({ port: server.port, headers: { ...bearer, host: host.replace(/^80/, '88') }, agent: false });
    sent.end();
    const [stream] = (await once(sent, 'response')) as [IncomingMessage];
    expect(String((await once(stream, 'data'))[0])).toBe('data: 1\n\n');
    sent.destroy();
  });

  it('without a known length reaches the box in chunks', async () => {
    // It reads the whole request: a server that closes with unread bytes resets the connection.
    const keep = 'timeout 5 sed "/^0/q" >/tmp/raw; printf "HTTP/1.1 200 OK\\r\\n\\r\\n"';
    await client.startExec(box.id, { cmd: ['nc', '-ll', '-p', '90', '-e', 'sh', '-c', keep] });
    await client.ports(box.id).wait(90);
    const at = { ...bearer, host: host.replace(/^80/, '90'), 'transfer-encoding': 'chunked' };
    const sent = request({ port: server.port, method: 'POST', headers: at, agent: false });
    sent.write('hello');
    sent.end('x'.repeat(1_000));
    const [answer] = (await once(sent, 'response')) as [IncomingMessage];
    expect([answer.statusCode, answer.statusCode === 200 ? '' : await text(answer)]).toEqual([200, '']);
    const { stdout } = await client.exec(box.id, ['cat', '/tmp/raw']);
    expect(stdout).toMatch(/^Transfer-Encoding: chunked\r$/m);
    expect(stdout).toMatch(/\r\n\r\n5\r\nhello\r\n3e8\r\nx+/);
  });

  it('gets 502 from a box that does not listen, speaks no HTTP or is stopped; people get a page', async () => {
    const nothing = await ask({ headers: { ...bearer, host: host.replace(/^80/, '7'), accept: 'text/html' } });
    expect(nothing).toMatchObject({ status: 502, headers: { 'content-security-policy': "default-src 'none'" } });
    expect(nothing.text).toContain('<h1>no process of the box listens at port 7</h1>');
    await client.startExec(box.id, { cmd: ['nc', '-ll', '-p', '89', '-e', 'echo', 'SSH-2.0'] });
    await client.ports(box.id).wait(89);
    const other = await ask({ headers: { ...bearer, host: host.replace(/^80/, '89') } });
    expect(other).toMatchObject({ status: 502, text: expect.stringContaining('RUNTIME_ERROR') as string });
    const own = await client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const { url } = await client.ports(own.id).link(80);
    await client.stopBox(own.id, { graceS: 0 });
    const stopped = await ask({ headers: { ...bearer, host: new URL(url).host } });
    expect(stopped).toMatchObject({ status: 502, text: expect.stringContaining('BOX_NOT_RUNNING') as string });
    await client.removeBox(own.id);
  });

  it('for another protocol becomes a connection of bytes, and the same rules hold', async () => {
    const cookie = await cookieOf();
    const open = async (headers: OutgoingHttpHeaders): Promise<[number, Socket | null]> => {
      const upgrade = { host, connection: 'upgrade', upgrade: 'websocket', ...headers };
      const sent = request({ port: server.port, headers: upgrade, agent: false });
      sent.end();
      return new Promise((resolve, reject) => {
        sent.on('error', reject);
        sent.on('response', (answer) => {
          answer.resume();
          resolve([answer.statusCode ?? 0, null]);
        });
        sent.on('upgrade', (answer, socket) => {
          expect(answer.headers).not.toHaveProperty('set-cookie');
          resolve([101, socket]);
        });
      });
    };
    const [status, socket] = await open({ cookie, origin: `http://${host}` });
    expect(status).toBe(101);
    socket?.end('hello');
    expect(socket === null ? '' : await text(socket)).toBe('hello');
    expect((await open({}))[0]).toBe(401);
    expect((await open({ cookie, origin: 'http://example.com' }))[0]).toBe(403);
    expect((await open({ ...bearer, 'content-length': '3' }))[0]).toBe(422);
  });

  it('whose address names another host is refused', async () => {
    const socket = connect(server.port, '127.0.0.1');
    socket.write(`GET http://127.0.0.1:${server.port}/v1/boxes HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    expect(await text(socket)).toMatch(/^HTTP\/1.1 400 /);
  });
});

describe('authority', () => {
  it('is the token, the cookie of this name, or the Unix socket', async () => {
    const cookie = await cookieOf();
    expect((await ask()).status).toBe(401);
    expect((await ask({ headers: { authorization: 'Bearer wrong-wrong-wrong' } })).status).toBe(401);
    expect((await ask({ headers: bearer })).status).toBe(200);
    expect((await ask({ headers: { cookie } })).status).toBe(200);
    expect((await ask({ via: 'socket' })).status).toBe(200);
  });

  it('of a cookie is for one name only, and is none for the API', async () => {
    const cookie = await cookieOf();
    const other = await client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    const otherHost = new URL((await client.ports(other.id).link(80)).url).host;
    for (const at of [otherHost, host.replace(/^80/, '81')])
      expect((await ask({ headers: { cookie, host: at } })).status).toBe(401);
    const api = `127.0.0.1:${server.port}`;
    expect((await ask({ path: '/v1/boxes', headers: { cookie, host: api } })).status).toBe(401);
    const [dashboard = ''] = await dashboardCookie(api);
    expect((await ask({ path: '/v1/boxes', headers: { cookie: dashboard, host: api } })).status).toBe(200);
    expect((await ask({ headers: { cookie: dashboard } })).status).toBe(401);
    await client.removeBox(other.id, { force: true });
  });

  it('of a link is used up, and is for one name and not for the dashboard', async () => {
    const { url, expires_in: expiresIn } = await client.ports(box.id).link(80);
    expect(expiresIn).toBe(60);
    const { pathname, search } = new URL(url);
    const open = (at: string, path = pathname) => ask({ path: path + search, headers: { host: at } });
    expect((await open(`127.0.0.1:${server.port}`, '/ui/login')).status).toBe(403);
    expect((await open(host)).status).toBe(403); // The attempt has used it up.
    const again = new URL((await client.ports(box.id).link(80)).url);
    expect(
      (await ask({ path: again.pathname + again.search, headers: { host: host.replace(/^80/, '81') } })).status,
    ).toBe(403);
    const dashboard = new URL((await client.uiLink()).url);
    expect((await ask({ path: pathname + dashboard.search })).status).toBe(403);
    expect((await ask({ path: '/.boxrun/other', headers: bearer })).status).toBe(404);
  });

  it('of a cookie is not for requests of pages of other origins, except a visit', async () => {
    const cookie = await cookieOf();
    const from = (headers: OutgoingHttpHeaders, method = 'GET') => ask({ method, headers: { cookie, ...headers } });
    const foreign = 'http://example.com';
    expect((await from({ origin: foreign })).status).toBe(403);
    expect((await from({ origin: 'null' }, 'POST')).status).toBe(403);
    expect((await from({ origin: `http://${host.replace(/^80/, '81')}` }, 'POST')).status).toBe(403);
    expect((await from({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' })).status).toBe(403);
    const visit = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
    expect((await from(visit)).status).toBe(200);
    expect((await from(visit, 'POST')).status).toBe(403);
    expect((await from({ ...visit, 'sec-fetch-dest': 'iframe' })).status).toBe(403);
    expect((await from({ origin: `http://${host}`, 'sec-fetch-site': 'same-origin' }, 'POST')).status).toBe(200);
  });

  it('is needed by browsers even if the server has no token, and by no other program', async () => {
    const open = await startServer();
    try {
      const own = await open.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
      await open.client.startExec(own.id, { cmd: ['nc', '-ll', '-p', '80', '-e', 'sh', '-c', repeat] });
      await open.client.ports(own.id).wait(80);
      const link = new URL((await open.client.ports(own.id).link(80)).url);
      const get = async (headers: OutgoingHttpHeaders, path = '/') => {
        const sent = request({ port: open.port, path, headers: { host: link.host, ...headers }, agent: false });
        sent.end();
        const [answer] = (await once(sent, 'response')) as [IncomingMessage];
        answer.resume();
        return answer;
      };
      expect((await get({ 'user-agent': 'curl/8.0' })).statusCode).toBe(200);
      expect((await get({ 'sec-websocket-key': 'x' })).statusCode).toBe(200);
      const browsers = [
        { 'user-agent': 'Mozilla/5.0' },
        { origin: 'http://example.com' },
        { 'sec-fetch-site': 'none' },
      ];
      for (const headers of browsers) expect((await get(headers)).statusCode).toBe(401);
      const login = await get({ 'user-agent': 'Mozilla/5.0' }, link.pathname + link.search);
      const cookie = login.headers['set-cookie']?.[0]?.split(';')[0] ?? '';
      expect((await get({ 'user-agent': 'Mozilla/5.0', cookie })).statusCode).toBe(200);
    } finally {
      await open.close();
    }
  });
});

async function dashboardCookie(api: string): Promise<string[]> {
  const { pathname, search } = new URL((await client.uiLink()).url);
  const answer = await ask({ path: pathname + search, headers: { host: api } });
  return (answer.headers['set-cookie'] ?? []).map((cookie) => cookie.split(';')[0] ?? '');
}
