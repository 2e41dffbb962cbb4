// Attacks through names, paths, arguments and environment, on a real server and a real box. The server never takes them
// for a path of the host, for shell text or for an option of a tool.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { attack, refusalOf } from '../support/security/attacks.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let dir = '';
let server: TestServer;
let box = '';

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-test-input-'));
  writeFileSync(join(dir, 'secret'), 'of the host\n');
  server = await startServer();
  box = (
    await server.client.create({
      image: 'base',
      cpu: 1,
      memory_mb: 128,
      env: { BOXLITE_HOME: '/x', BOXRUN_TOKEN: 'y', MY_BOXRUN_: 'kept' },
    })
  ).id;
});
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

const create = (body: object) =>
  server.call({ method: 'POST', path: '/v1/boxes', body: { image: 'base', cpu: 1, memory_mb: 64, ...body } });
const run = async (cmd: readonly string[], more: object = {}) => server.client.exec(box, { cmd: [...cmd], ...more });
const sh = async (script: string) => (await run(['sh', '-c', script])).stdout;

describe('a client that uses a hostile name', () => {
  for (const name of [
    '../../etc',
    '/etc',
    '-rf',
    '--help',
    '$(touch /tmp/x)',
    'a;reboot',
    'a b',
    'a\nb',
    'a\u0000b',
    '.',
    '..',
    'box_abcdefghijkl',
    '',
  ]) {
    attack(`names a box ${JSON.stringify(name)}`, async () => refusalOf(await create({ name }), 'VALIDATION_ERROR'));
  }

  for (const image of [
    '../../etc',
    '/etc/passwd',
    '--help',
    '-f',
    'dir:/etc',
    'oci:/etc',
    'docker-archive:/etc/passwd',
    'docker://a',
    '$(id)',
    'a;id',
    'a b',
    'a\u0000b',
  ]) {
    attack(`names an image ${JSON.stringify(image)}`, async () => {
      const answer = await create({ image });
      return refusalOf(answer, answer.status === 422 ? 'VALIDATION_ERROR' : 'IMAGE_PULL_FAILED');
    });
  }

  for (const path of [
    '/v1/boxes/..%2f..%2fetc',
    '/v1/boxes/%2e%2e',
    '/v1/boxes/$(id)/execs',
    "/v1/boxes/'%20OR%201=1--",
  ]) {
    attack(`requests ${path}`, async () => refusalOf(await server.call({ path }), 'BOX_NOT_FOUND'));
  }
});

describe('a client that starts a hostile command', () => {
  attack('uses options and shell text as arguments', async () => {
    const words = ['--', '-c', '$(id)', '`id`', '; id', '| id', '> /x', '*', '\n', '', '--user=0', '%s'];
    const { stdout } = await run(['sh', '-c', 'for word; do printf "%s|" "$word"; done', 'sh', ...words]);
    expect(stdout).toBe(`${words.join('|')}|`);
    const { exitCode } = await run(['--version']);
    expect(exitCode).toBe(127);
    return 'each argument arrives unchanged; --version is a missing program (127)';
  });

  attack('controls the engine or its shell through the environment', async () => {
    const env = {
      BOXLITE_EXECUTOR: 'host',
      BOXRUN_ORDERS: '{}',
      LD_PRELOAD: '/nothing.so',
      'A B': '1',
      'X;id': '2',
      PLAIN: '$(id)\n`id`',
    };
    const { stdout } = await run(['env'], { env });
    expect(stdout).not.toMatch(/^(BOXLITE|BOXRUN)_/m);
    expect(stdout).toContain('PLAIN=$(id)\n`id`');
    expect(await sh('env; tr "\\0" "\\n" < /proc/1/environ')).not.toMatch(/^(BOXLITE|BOXRUN)_/m);
    return 'no BOXLITE_* or BOXRUN_* in the box; other variables arrive as text';
  });

  for (const env of [{ 'A=B': 'x' }, { '': 'x' }, { A: 'x\u0000y' }, { 'A\u0000': 'x' }]) {
    attack(`sets the variable ${JSON.stringify(env)}`, async () =>
      refusalOf(
        await server.call({ method: 'POST', path: `/v1/boxes/${box}/exec`, body: { cmd: ['true'], env } }),
        'VALIDATION_ERROR',
      ),
    );
  }

  attack('uses an option or ../ as directory or user', async () => {
    const at = async (more: object) => (await run(['pwd'], more)).exitCode;
    expect(await at({ workdir: '/../../../..' })).toBe(0);
    expect((await run(['ls', `.${dir}`], { workdir: '/../../../..' })).exitCode).not.toBe(0);
    expect(await at({ workdir: '/--help' })).not.toBe(0);
    const answer = await server.call({
      method: 'POST',
      path: `/v1/boxes/${box}/exec`,
      body: { cmd: ['id'], user: '--help' },
    });
    return refusalOf(answer, 'VALIDATION_ERROR');
  });

  attack('sends control characters as TERM', async () => {
    const answer = await server.call({ path: `/v1/boxes/${box}/attach?term=%1b]0;x%07` });
    expect(answer.status).toBe(426);
    const terminal = await server.client.attach(box, { term: '\u001b]0;x\u0007', shell: '/bin/sh' });
    const error: unknown = await terminal.exited.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'VALIDATION_ERROR' });
    return 'VALIDATION_ERROR';
  });
});

describe('a client that copies a hostile file', () => {
  const boundary = 'b1234567890';
  const upload = (dest: string, fileName = 'f') => {
    const part = (head: string, value: string) =>
      `--${boundary}\r\ncontent-disposition: form-data; ${head}\r\n\r\n${value}\r\n`;
    const body = `${part('name="dest"', dest)}${part(`name="file"; filename="${fileName}"`, 'evil')}--${boundary}--\r\n`;
    return server.call({
      method: 'POST',
      path: `/v1/boxes/${box}/files/upload`,
      body,
      headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    });
  };
  const download = (path: string) =>
    server.call({ method: 'POST', path: `/v1/boxes/${box}/files/download`, body: { path } });

  for (const path of ['/../../etc/passwd', '/root/../../x', '..', '../x', '/a/..']) {
    attack(`uploads and downloads ${path}`, async () => {
      refusalOf(await upload(path), 'VALIDATION_ERROR');
      return refusalOf(await download(path), 'VALIDATION_ERROR');
    });
  }

  attack('copies through a planted link to the host', async () => {
    await sh(
      `ln -s ${dir}/secret /root/leak; ln -s ${dir} /root/way; ln -s /proc/1/root/${dir}/secret /root/leak2; ln -s /proc/self/cwd/${dir}/secret /root/leak3`,
    );
    for (const path of ['/root/leak', '/root/way/secret', '/root/leak2', '/root/leak3']) {
      const answer = await download(path);
      expect(answer.text).not.toContain('of the host');
      expect(answer.status).toBe(400);
    }
    await upload('/root/way/planted');
    await upload('/root/leak');
    expect(existsSync(join(dir, 'planted'))).toBe(false);
    const answer = await download('/root/leak4');
    return refusalOf(answer, 'RUNTIME_ERROR').replace('leak4', '…');
  });

  attack('names the file like an option or shell text', async () => {
    for (const name of ['-rf', '--help', '$(id)', '`id`', "a'b", 'a;id', '*']) {
      expect((await upload(`/root/names/${name}`)).status).toBe(200);
      expect((await download(`/root/names/${name}`)).text).toBe('evil');
    }
    const listed = (await sh('ls /root/names | wc -l')).trim();
    expect(listed).toBe('7');
    return 'seven files with exactly these names, and nothing else';
  });

  attack('adds headers to an answer through the name of the file', async () => {
    await sh('printf evil > "$(printf \'/root/a\\r\\nX-Evil: 1\')"');
    const answer = await download('/root/a\r\nX-Evil: 1');
    expect(answer.headers['x-evil']).toBeUndefined();
    expect(answer.text).toBe('evil');
    return String(answer.headers['content-disposition']);
  });

  attack('puts a path of the host into the form', async () => {
    expect((await upload('/root/plain', '../../../../tmp/evil')).status).toBe(200);
    expect(await sh('cat /root/plain; test ! -e /tmp/evil || echo there')).toBe('evil');
    return 'the server ignores the file name in the form';
  });
});
