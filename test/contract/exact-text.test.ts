// Tests names, arguments and paths on the command line, over HTTP and in the SDK, against a real server. Valid UTF-8
// arrives unchanged. Everything else is refused, and never replaced by another text.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cliBundle, startServer, type JsonBody, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let directory = '';
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-text-'));
  server = await startServer();
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 256 });
});
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  await server.close();
});

const inBox = async (script: string) => (await server.client.exec('web', ['sh', '-c', script])).stdout;

/** Runs a shell script with the command line in `directory`. A shell can pass arguments of any bytes. */
async function shell(script: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn('sh', ['-c', `boxrun() { "${process.execPath}" "${cliBundle}" "$@"; }\n${script}`], {
    cwd: directory,
    env: server.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (piece: Buffer) => (said.stdout += piece.toString()));
  child.stderr.on('data', (piece: Buffer) => (said.stderr += piece.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...said };
}

describe('the command line', () => {
  it.each([
    ['of a command in a box', 'boxrun exec web -- echo "$(printf "caf\\351")"'],
    ['of a variable', 'boxrun exec -e "A=$(printf "caf\\351")" web -- env'],
    ['of a label', 'boxrun create base -l "a=$(printf "caf\\351")"'],
    ['of a file here', 'boxrun cp "$(printf "caf\\351")" web:/root/file'],
    ['of a file in a box', 'boxrun cp "web:/root/$(printf "caf\\351")" file'],
    ['of a box', 'boxrun stop "$(printf "caf\\351")"'],
  ])('refuses an argument that is not UTF-8: %s', async (_, script) => {
    const { code, stderr, stdout } = await shell(script);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/an argument is not UTF-8: '[^']*caf\\xe9'/);
  });

  it('passes on all UTF-8 text unchanged, even the replacement character U+FFFD', async () => {
    const text = '\u{1f600}\ufffd\u0085\u2028 é\r\n\t"\'\\$(x)';
    writeFileSync(join(directory, 'text'), text);
    expect(await shell('boxrun exec web -- printf %s "$(cat text)"')).toEqual({ code: 0, stdout: text, stderr: '' });
  });

  it('refuses to copy or mount a working directory whose name is not UTF-8', async () => {
    mkdirSync(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0x63, 0xe9])]));
    const there = 'cd "$(printf "c\\351")" &&';
    for (const command of ['boxrun cp . web:/root/', 'boxrun create base -v .:/srv']) {
      const { code, stderr } = await shell(`${there} ${command}`);
      expect({ command, code }).toEqual({ command, code: 2 });
      expect(stderr).toMatch(/the working directory is not UTF-8: '.*c\\xe9'/);
    }
  });

  it('copies directories in both directions, even if names of files are not UTF-8', async () => {
    const names = [Buffer.from([0x61, 0xff, 0xfe]), Buffer.from('é\n'), Buffer.from([0xed, 0xa0, 0x80])];
    mkdirSync(join(directory, 'names'));
    for (const name of names)
      writeFileSync(Buffer.concat([Buffer.from(`${directory}/names/`), name]), name.toString('hex'));
    expect(await shell('boxrun cp names web:/root/names')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await inBox('cd /root/names && for f in *; do printf "%s" "$f" | cmp -s - "$f"; wc -c < "$f"; done')).toBe(
      [...names]
        .map((name) => `${name.toString('hex').length}\n`)
        .sort()
        .join(''),
    );
    expect(await shell('boxrun cp web:/root/names back')).toEqual({ code: 0, stdout: '', stderr: '' });
    const found = readdirSync(join(directory, 'back'), { encoding: 'buffer' });
    expect(found.map((name) => name.toString('hex')).sort()).toEqual(names.map((name) => name.toString('hex')).sort());
    for (const name of found)
      expect(readFileSync(Buffer.concat([Buffer.from(`${directory}/back/`), name]), 'utf8')).toBe(name.toString('hex'));
  });
});

interface Raw {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

async function raw({ method = 'POST', path, headers = {}, body }: Raw): Promise<{ status: number; json: JsonBody }> {
  const outgoing = request({ socketPath: server.socketPath, method, path, headers, agent: false });
  outgoing.end(body);
  const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
  const pieces: Buffer[] = [];
  for await (const piece of answer) pieces.push(piece as Buffer);
  return { status: answer.statusCode ?? 0, json: JSON.parse(Buffer.concat(pieces).toString()) as JsonBody };
}

describe('the server', () => {
  const box = { image: 'base', cpu: 1, memory_mb: 64 };
  const half = '\ud800';
  it.each<[string, string, object]>([
    ['exec', 'cmd.1', { cmd: ['echo', `a${half}`] }],
    ['exec', 'env.A', { cmd: ['env'], env: { A: `${half}b` } }],
    ['exec', 'env', { cmd: ['env'], env: { [half]: 'b' } }],
    ['exec', 'workdir', { cmd: ['pwd'], workdir: `/${'\udc00'}` }],
    ['files/download', 'path', { path: `/root/${half}` }],
    ['', 'labels.a', { ...box, labels: { a: half } }],
    ['', 'name', { ...box, name: half }],
    ['', 'volumes.0.host_path', { ...box, volumes: [{ host_path: `/tmp/${half}`, guest_path: '/srv' }] }],
    ['run', 'cmd.0', { image: 'base', cmd: [half] }],
  ])('refuses half of a surrogate pair in %s %s', async (route, field, body) => {
    const path = route === '' ? '/v1/boxes' : route === 'run' ? '/v1/run' : `/v1/boxes/web/${route}`;
    const { status, json } = await server.call({ method: 'POST', path, body });
    expect(status).toBe(422);
    expect(json).toMatchObject({ code: 'VALIDATION_ERROR', hint: expect.any(String) as string });
    expect(json.message).toContain(`'${field}' has half of a surrogate pair`);
  });

  it.each<[string, object]>([
    ['exec', { cmd: ['echo', 'a\0b'] }],
    ['exec', { cmd: ['env'], env: { A: 'a\0b' } }],
    ['exec', { cmd: ['env'], env: { 'a\0b': 'a' } }],
    ['exec', { cmd: ['pwd'], workdir: '/a\0b' }],
    ['exec', { cmd: ['id'], user: 'a\0b' }],
    ['files/download', { path: '/root/a\0b' }],
  ])('refuses a NUL in %s %j', async (route, body) => {
    const { status, json } = await server.call({ method: 'POST', path: `/v1/boxes/web/${route}`, body });
    expect({ status, code: json.code }).toEqual({ status: 422, code: 'VALIDATION_ERROR' });
  });

  it('accepts whole surrogate pairs, escaped or not', async () => {
    const body = Buffer.from('{"cmd": ["printf", "%s", "\\ud83d\\ude00\u{1f600}"]}');
    const headers = { 'content-type': 'application/json' };
    const { json } = await raw({ path: '/v1/boxes/web/exec', headers, body });
    expect(json['cmd']).toEqual(['printf', '%s', '\u{1f600}\u{1f600}']);
  });

  it('refuses a body that is not UTF-8', async () => {
    const body = Buffer.from('{"cmd": ["echo", "caf\xe9"]}', 'latin1');
    const { status, json } = await raw({
      path: '/v1/boxes/web/exec',
      headers: { 'content-type': 'application/json' },
      body,
    });
    expect({ status, json }).toEqual({
      status: 422,
      json: { code: 'VALIDATION_ERROR', message: 'the body is not UTF-8', hint: 'send text in UTF-8' },
    });
  });

  it.each([
    '/v1/boxes/caf%e9',
    '/v1/boxes?label=caf%e9',
    '/v1/boxes?label=%ed%a0%80',
    '/v1/boxes/web/execs?cursor=%ff',
  ])('refuses an address that is not UTF-8: %s', async (path) => {
    const { status, json } = await raw({ method: 'GET', path });
    expect({ status, code: json.code }).toEqual({ status: 400, code: 'VALIDATION_ERROR' });
    expect(json).toMatchObject({
      message: 'the address of the request is not UTF-8',
      hint: expect.any(String) as string,
    });
  });

  it.each([
    ['GET /v1/boxes?label=caf\xe9 HTTP/1.1', ''],
    [
      'GET /v1/boxes/web/attach?shell=%2fbin%2fcaf%e9 HTTP/1.1',
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n',
    ],
  ])('refuses an address that is not UTF-8 in the raw request %j', async (line, headers) => {
    const socket = connect(server.socketPath);
    socket.end(Buffer.from(`${line}\r\nHost: localhost\r\n${headers}\r\n`, 'latin1'));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 400 /);
    socket.destroy();
  });

  const form = (dest: Buffer, type: string) =>
    Buffer.concat([
      Buffer.from(`--X\r\nContent-Disposition: form-data; name="dest"\r\n${type}\r\n`),
      dest,
      Buffer.from(
        '\r\n--X\r\nContent-Disposition: form-data; name="file"; filename="caf\xe9"\r\n\r\ncontent\r\n--X--\r\n',
        'latin1',
      ),
    ]);
  const upload = (dest: Buffer, type = '') =>
    raw({
      path: '/v1/boxes/web/files/upload',
      headers: { 'content-type': 'multipart/form-data; boundary=X' },
      body: form(dest, type),
    });

  it.each([
    ['not UTF-8', Buffer.from('/root/caf\xe9', 'latin1'), ''],
    [
      'not UTF-8, with another charset in its type',
      Buffer.from('/root/caf\xe9', 'latin1'),
      'Content-Type: text/plain; charset=iso-8859-1\r\n',
    ],
    [
      'not UTF-8, with the charset utf-8 in its type',
      Buffer.from('/root/caf\xe9', 'latin1'),
      'Content-Type: text/plain; charset=utf-8\r\n',
    ],
    ['half a surrogate pair', Buffer.from([0x2f, 0xed, 0xa0, 0x80]), ''],
  ])('refuses an upload whose destination is %s', async (_, dest, type) => {
    const { status, json } = await upload(dest, type);
    expect({ status, code: json.code, message: json.message }).toEqual({
      status: 422,
      code: 'VALIDATION_ERROR',
      message: "'dest' is not UTF-8",
    });
    expect(await inBox('ls -A /root | grep caf')).toBe('');
  });

  it.each(['', 'Content-Type: text/plain; charset=UTF-8\r\n'])(
    'accepts a UTF-8 destination of an upload with the header %j',
    async (type) => {
      const dest = '/root/é \ufffd\u{1f600}';
      expect(await upload(Buffer.from(dest), type)).toEqual({ status: 200, json: { ok: true, dest } });
      expect(await inBox(`cat '${dest}'; rm '${dest}'`)).toBe('content');
    },
  );
});

it('the SDK refuses an upload to a path with half of a surrogate pair', async () => {
  const upload = server.client.upload('web', Buffer.from('x'), '/root/\ud800');
  await expect(upload).rejects.toMatchObject({ code: 'VALIDATION_ERROR' });
});
