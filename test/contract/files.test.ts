// Tests uploads and downloads over HTTP, through a real server and a real box. Contents and names are unchanged. An
// incomplete upload leaves nothing at the destination.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { collect } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type Answer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let box: string;

beforeAll(async () => {
  server = await startServer();
  box = (await server.client.create({ image: 'base' })).id;
});
afterAll(async () => {
  await server.close();
});

async function shell(script: string): Promise<string> {
  const exec = await server.client.startExec(box, { cmd: ['sh', '-c', script] });
  return (await collect(server.client, exec)).stdout;
}

interface Part {
  readonly name: string;
  readonly value: string | Buffer;
  readonly fileName?: string;
}

function form(parts: readonly Part[]): { body: Buffer; contentType: string } {
  const boundary = `b${randomBytes(8).toString('hex')}`;
  const pieces = parts.flatMap(({ name, value, fileName }) => [
    Buffer.from(
      `--${boundary}\r\ncontent-disposition: form-data; name="${name}"${fileName === undefined ? '' : `; filename="${fileName}"`}\r\n\r\n`,
    ),
    Buffer.from(value),
    Buffer.from('\r\n'),
  ]);
  return {
    body: Buffer.concat([...pieces, Buffer.from(`--${boundary}--\r\n`)]),
    contentType: `multipart/form-data; boundary=${boundary}`,
  };
}

async function post(
  path: string,
  body: Buffer | string,
  contentType: string,
  via: 'tcp' | 'socket' = 'tcp',
): Promise<{ answer: IncomingMessage; content: Buffer }> {
  const target = via === 'socket' ? { socketPath: server.socketPath } : { host: '127.0.0.1', port: server.port };
  const outgoing = request({ ...target, method: 'POST', path, agent: false, headers: { 'content-type': contentType } });
  outgoing.end(body);
  const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
  const pieces: Buffer[] = [];
  for await (const piece of answer) pieces.push(piece as Buffer);
  const content = Buffer.concat(pieces);
  server.check('POST', path, { status: answer.statusCode ?? 0, headers: answer.headers, text: content.toString() });
  return { answer, content };
}

async function upload(parts: readonly Part[], target = box): Promise<Pick<Answer, 'status' | 'json'>> {
  const { body, contentType } = form(parts);
  const { answer, content } = await post(`/v1/boxes/${target}/files/upload`, body, contentType);
  return { status: answer.statusCode ?? 0, json: JSON.parse(content.toString()) as Answer['json'] };
}

const put = (dest: string, content: Buffer | string) =>
  upload([
    { name: 'dest', value: dest },
    { name: 'file', value: content, fileName: 'f' },
  ]);
const get = (path: string, target = box) =>
  post(`/v1/boxes/${target}/files/download`, JSON.stringify({ path }), 'application/json');
const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

it('a file is unchanged after upload and download, with either field of the form first', async () => {
  for (const length of [0, 1, 65_536, 300_001, 5_000_000]) {
    const content = randomBytes(length);
    const file = { name: 'file', value: content, fileName: 'x.bin' };
    const parts =
      length % 2 === 0
        ? [{ name: 'dest', value: '/data/x.bin' }, file]
        : [file, { name: 'dest', value: '/data/x.bin' }];
    expect(await upload(parts)).toEqual({ status: 200, json: { ok: true, dest: '/data/x.bin' } });
    expect((await shell('sha256sum </data/x.bin')).slice(0, 64)).toBe(sha(content));
    const { answer, content: back } = await get('/data/x.bin');
    expect(answer.headers).toMatchObject({
      'content-length': `${length}`,
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment; filename="x.bin"',
    });
    expect(sha(back)).toBe(sha(content));
  }
  expect((await readdir(server.stateDir)).filter((name) => name.startsWith('upload-'))).toEqual([]);
});

it('a name with blanks, quotes, newlines or any letters is unchanged after upload and download', async () => {
  for (const name of [
    'a b',
    `it's "quoted"`,
    'new\nline',
    'grün 日本 🎉',
    '-n',
    '100%',
    'back\\slash',
    '*?[x]$HOME`id`',
  ]) {
    expect(await put(`/names/${name}`, name)).toMatchObject({ status: 200 });
    const { answer, content } = await get(`/names/${name}`);
    expect(content.toString()).toBe(name);
    expect(answer.headers['content-disposition']).toMatch(
      /^attachment; filename="[^"\r\n]*"(; filename\*=UTF-8''[\w.%~-]+)?$/,
    );
  }
  expect(await shell('ls -A /names | wc -l')).toBe('8\n');
});

it('an upload makes missing directories, keeps the mode of an old file, and takes paths from the workdir', async () => {
  expect(await put('/deep/er/still/f', 'x')).toMatchObject({ status: 200 });
  await shell('chmod 755 /deep/er/still/f');
  expect(await put('/deep/er/still/f', 'longer')).toMatchObject({ status: 200 });
  expect(await shell('stat -c %a /deep/er/still/f; cat /deep/er/still/f')).toBe('755\nlonger');
  expect(await put('rel/f', 'here')).toMatchObject({ status: 200 });
  expect(await shell('cat /root/rel/f')).toBe('here');
  expect(await put('/tmp/f', 'tmp')).toMatchObject({ status: 200 });
  expect((await get('/tmp/f')).content.toString()).toBe('tmp');
});

it('a path that cannot be a file is refused with an error, for uploads and downloads', async () => {
  await shell('mkdir -p /dir; ln -s /dir /link; mkfifo /fifo; ln -s /nowhere /dangling');
  for (const dest of ['/a/../../etc/x', '..', '/dir', '/link', '/dir/', '/', '.']) {
    expect(await put(dest, 'x')).toMatchObject({ status: 422, json: { code: 'VALIDATION_ERROR' } });
  }
  expect(await put('/fifo/x', 'x')).toMatchObject({ status: 400, json: { code: 'RUNTIME_ERROR' } });
  expect(await put('/proc/x', 'x')).toMatchObject({ status: 400, json: { code: 'RUNTIME_ERROR' } });
  const download = async (path: string) => {
    const { answer, content } = await get(path);
    return { status: answer.statusCode, ...(JSON.parse(content.toString()) as object) };
  };
  expect(await download('/missing')).toMatchObject({
    status: 400,
    code: 'RUNTIME_ERROR',
    message: expect.stringContaining('/missing') as string,
  });
  expect(await download('/dangling')).toMatchObject({ status: 400, code: 'RUNTIME_ERROR' });
  for (const path of ['/dir', '/fifo', '/dev/zero', '/etc/../etc/passwd', ''])
    expect(await download(path)).toMatchObject({ status: 422, code: 'VALIDATION_ERROR' });
});

it('an upload without one of its fields, or with a damaged form, answers 400', async () => {
  const file = { name: 'file', value: 'x', fileName: 'x' };
  const dest = { name: 'dest', value: '/never' };
  for (const parts of [[file], [dest], [], [{ ...dest, value: '' }, file]]) {
    expect(await upload(parts)).toMatchObject({ status: 400, json: { code: 'VALIDATION_ERROR' } });
  }
  const { body, contentType } = form([dest, file]);
  const path = `/v1/boxes/${box}/files/upload`;
  expect((await post(path, body.subarray(0, body.length - 12), contentType)).answer.statusCode).toBe(400);
  expect((await post(path, 'rubbish', contentType)).answer.statusCode).toBe(400);
  expect((await post(path, 'x', 'multipart/form-data')).answer.statusCode).toBe(400);
  expect((await post(path, '{}', 'application/json')).answer.statusCode).toBe(415);
  expect((await post('/v1/boxes/none/files/upload', body, contentType)).answer.statusCode).toBe(404);
  expect((await post('/v1/boxes/none/files/download', '{"path":"/x"}', 'application/json')).answer.statusCode).toBe(
    404,
  );
  expect((await post(`/v1/boxes/${box}/files/download`, '{}', 'application/json')).answer.statusCode).toBe(422);
  expect(await shell('ls /never 2>/dev/null')).toBe('');
  await eventually('no temporary file is left', async () => (await shell('ls -A / | grep upload')) === '');
});

it('a download of a file in /proc works without a length', async () => {
  const { answer, content } = await get('/proc/self/status');
  expect(answer.headers['content-length']).toBeUndefined();
  expect(content.toString()).toMatch(/^Name:/);
});

it('an upload to a full disk fails with a clear error, and leaves no file', async () => {
  const small = await server.client.create({ image: 'base', disk_size_gb: 1 });
  const exec = await server.client.startExec(small.id, {
    cmd: [
      'sh',
      '-c',
      'dd if=/dev/zero of=/fill bs=1M 2>/dev/null; dd if=/dev/zero of=/fill2 bs=1k 2>/dev/null; truncate -s -1M /fill; sync',
    ],
  });
  await collect(server.client, exec);
  const dest = { name: 'dest', value: '/data/big' };
  const answer = await upload([dest, { name: 'file', value: randomBytes(4_000_000), fileName: 'f' }], small.id);
  expect(answer).toMatchObject({
    status: 400,
    json: { code: 'RUNTIME_ERROR', message: expect.stringContaining('No space left') as string },
  });
  const { stdout } = await collect(
    server.client,
    await server.client.startExec(small.id, { cmd: ['ls', '-A', '/data'] }),
  );
  expect(stdout).toBe('');
  await server.client.removeBox(small.id, { force: true });
});

it('an upload leaves no file when the client leaves in the middle', async () => {
  const socket = connect(server.port, '127.0.0.1');
  socket.write(
    `POST /v1/boxes/${box}/files/upload HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 9999999\r\n\r\n` +
      `--b\r\ncontent-disposition: form-data; name="dest"\r\n\r\n/half/file\r\n--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n${'x'.repeat(100_000)}`,
  );
  await eventually(
    'the upload has begun',
    async () => (await shell("ls -d /half && ps | grep '[f]iles 1 write'")) !== '',
  );
  socket.destroy();
  await eventually('no file is left', async () => (await shell('ls -A /half')) === '');
});

it('uploads to and downloads from a stopped box fail with BOX_NOT_RUNNING', async () => {
  const other = await server.client.create({ image: 'base' });
  await server.client.stopBox(other.id);
  const answer = await upload(
    [
      { name: 'dest', value: '/x' },
      { name: 'file', value: 'x', fileName: 'x' },
    ],
    other.id,
  );
  expect(answer).toMatchObject({ status: 400, json: { code: 'BOX_NOT_RUNNING' } });
  expect((await get('/x', other.id)).content.toString()).toContain('BOX_NOT_RUNNING');
  await server.client.removeBox(other.id);
});

it('an upload fails with BOX_NOT_RUNNING when its box is stopped in the middle', async () => {
  const other = await server.client.create({ image: 'base' });
  const stopping: Promise<unknown>[] = [];
  const endless = async function* () {
    for (let sent = 0; ; sent++) {
      yield randomBytes(65_536);
      if (sent === 64) stopping.push(server.client.stopBox(other.id));
    }
  };
  await expect(server.client.upload(other.id, endless(), '/data/file')).rejects.toMatchObject({
    code: 'BOX_NOT_RUNNING',
  });
  expect(stopping).toHaveLength(1);
  await Promise.all(stopping);
  await server.client.startBox(other.id);
  expect((await server.client.exec(other.id, ['ls', '/data/file'])).exitCode).toBe(1);
  await server.client.removeBox(other.id, { force: true });
});
