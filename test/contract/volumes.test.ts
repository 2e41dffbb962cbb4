// Tests volumes on a real server: volumes inside each other, in any order, and volumes over files of the box. Places
// where nothing can be mounted are refused before an image is pulled.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let top = '';
const path = (name: string) => join(top, name);
const file = (name: string, text = `${name}\n`) => {
  mkdirSync(dirname(path(name)), { recursive: true });
  writeFileSync(path(name), text);
};

beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'boxrun-test-places-'));
  for (const name of [
    'parent/mark',
    'child/mark',
    'grandchild/mark',
    'full/sub/deep/mark',
    'file',
    'etc/only-here',
    'closed-etc/mark',
  ])
    file(name);
  mkdirSync(path('empty'));
  symlinkSync('sub', path('full/link'));
  server = await startServer();
});
afterAll(async () => {
  await server.close();
  rmSync(top, { recursive: true, force: true });
});

/** Makes volumes of texts in the form `name:guest path[:ro]`. */
const volumes = (...texts: string[]) =>
  texts.map((text) => {
    const [name = '', guestPath = '', mode] = text.split(':');
    return { host_path: path(name), guest_path: guestPath, readonly: mode === 'ro' };
  });
const create = (list: unknown, more: object = {}) =>
  server.call({
    method: 'POST',
    path: '/v1/boxes',
    body: { image: 'base', cpu: 1, memory_mb: 64, volumes: list, ...more },
  });
const boxrun = (...args: string[]) =>
  new Promise<{ code: unknown; stderr: string }>((resolve) => {
    execFile(process.execPath, [cliBundle, ...args], { env: server.env }, (error, _stdout, stderr) => {
      resolve({ code: error?.code ?? 0, stderr });
    });
  });
/** Returns what a script prints in a box with these volumes. */
async function inBox(script: string, ...texts: string[]): Promise<string> {
  const answer = await create(volumes(...texts));
  expect([answer.status, answer.json.message]).toEqual([201, undefined]);
  const { stdout, stderr } = await server.client.exec(String(answer.json['id']), ['sh', '-c', script]);
  await server.client.removeBox(String(answer.json['id']), { force: true });
  return stdout + stderr;
}

describe('volumes inside each other', () => {
  it.each([
    ['parent first', ['parent:/v', 'child:/v/sub', 'grandchild:/v/sub/deep']],
    ['child first', ['grandchild:/v/sub/deep', 'child:/v/sub', 'parent:/v']],
    ['with paths that are not normalized', ['grandchild:/v/./sub//deep/', 'child:/v/x/../sub', 'parent:/v//']],
  ])('are all visible, %s', async (_order, list) => {
    expect(await inBox('cat /v/mark /v/sub/mark /v/sub/deep/mark', ...list)).toBe(
      'parent/mark\nchild/mark\ngrandchild/mark\n',
    );
  });

  it('can be files, and can be in a read-only volume that has their directory', async () => {
    const script = 'cat /v/sub/deep/mark /v/mark; echo x > /v/sub/deep/written && echo written; touch /v/no';
    const said = await inBox(script, 'child:/v/sub/deep', 'full:/v:ro', 'file:/root/here');
    expect(said).toContain('child/mark\n');
    expect(said).toContain('written\n');
    expect(said).toContain('Read-only file system');
    expect(readdirSync(path('full'))).toEqual(['link', 'sub']);
    expect(await inBox('cat /root/a/here', 'file:/root/a/here', 'empty:/root/a')).toBe('file\n');
  });

  it.each([
    [
      'the outer volume is read-only and does not have the directory',
      ['child:/v/sub', 'empty:/v:ro'],
      /which is read-only and has no directory sub$/,
    ],
    ['the outer volume is a file', ['child:/v/sub', 'file:/v'], /which is a file$/],
    [
      'the outer volume has a file at that place',
      ['child:/v/mark', 'parent:/v'],
      /needs a directory in the volume at \/v, and .*mark is none$/,
    ],
  ])('are refused when %s', async (_what, list, message) => {
    const answer = await create(volumes(...list), { image: 'registry.invalid/never' });
    expect([answer.status, answer.json.code]).toEqual([422, 'VALIDATION_ERROR']);
    expect(answer.json.message).toMatch(message);
  });
});

describe('a volume', () => {
  it('at /etc does not hide hosts, hostname and resolv.conf of the box', async () => {
    const said = await inBox(
      'cat /etc/only-here; grep -c localhost /etc/hosts; test -s /etc/hostname && ls /etc',
      'etc:/etc',
    );
    expect(said).toBe('etc/only-here\n2\nhostname\nhosts\nonly-here\nresolv.conf\n');
  });

  it('at /etc that is read-only is refused if it does not have these files', async () => {
    const answer = await create(volumes('closed-etc:/etc:ro'));
    expect([answer.status, answer.json.message]).toEqual([
      422,
      expect.stringMatching(/\/etc\/hosts .* read-only and has no file hosts$/),
    ]);
    for (const name of ['hosts', 'hostname', 'resolv.conf']) file(`closed-etc/${name}`, 'from the host\n');
    expect(await inBox('cat /etc/mark; head -n 1 /etc/hosts', 'closed-etc:/etc:ro')).toBe(
      'closed-etc/mark\n127.0.0.1\tlocalhost\n',
    );
  });

  it('at /etc/hosts or /dev/shm replaces that of the box', async () => {
    expect(await inBox('cat /etc/hosts', 'file:/etc/hosts')).toBe('file\n');
    expect(await inBox('cat /dev/shm/mark', 'child:/dev/shm')).toBe('child/mark\n');
  });

  it('that is read-only is refused if it covers the working directory and does not have it', async () => {
    const missing = await create(volumes('empty:/place:ro'), { workdir: '/place/here' });
    expect([missing.status, missing.json.code]).toEqual([422, 'VALIDATION_ERROR']);
    expect((await create(volumes('file:/place'), { workdir: '/place' })).status).toBe(422);
    expect((await create(volumes('empty:/place:ro'), { workdir: '/place' })).status).toBe(201);
  });
});

describe('a place where nothing can be mounted', () => {
  it.each(['/', '/proc', '/proc/sys', '/sys/', '/dev', '/x/../dev', '/dev/.boxrun', '/dev/pts'])(
    'is refused before an image is pulled: %s',
    async (place) => {
      const before = (await server.call({ path: '/v1/boxes' })).list.length;
      const refused = [
        await create([{ host_path: top, guest_path: place }], { image: 'registry.invalid/never', name: 'never' }),
        await server.call({
          method: 'POST',
          path: '/v1/run',
          body: { image: 'registry.invalid/never', cmd: ['true'], volumes: [{ host_path: top, guest_path: place }] },
        }),
      ];
      for (const { status, json } of refused) {
        expect([status, json.code, json['hint']]).toEqual([422, 'VALIDATION_ERROR', expect.any(String)]);
        expect(json.message).toContain(place);
      }
      expect((await server.call({ path: '/v1/boxes' })).list.length).toBe(before);
    },
  );

  it('is an error of the command line, like two volumes at the same place', async () => {
    const one = await boxrun('create', 'registry.invalid/never', '-v', `${top}:/proc`);
    expect([one.code, one.stderr]).toEqual([
      1,
      expect.stringContaining('[VALIDATION_ERROR] a volume cannot be mounted at /proc'),
    ]);
    const two = await boxrun('run', 'registry.invalid/never', '-v', `${top}:/a`, '-v', `${top}:/a/`, '--', 'true');
    expect([two.code, two.stderr]).toEqual([1, expect.stringContaining('one place')]);
  });
});
