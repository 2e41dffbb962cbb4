// `--volume-root`: what a box may mount of the host, with every link on the way, at create and again at start.
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { attack, refusalOf } from '../support/attacks.ts';
import { startServer, type TestServer } from '../support/server.ts';

let top = '';
let server: TestServer;
const path = (name: string) => join(top, name);

beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'boxrun-test-volumes-'));
  for (const name of ['root/data', 'root-beside', 'second', 'outside']) mkdirSync(path(name), { recursive: true });
  writeFileSync(path('outside/secret'), 'secret\n');
  writeFileSync(path('root/data/file'), 'data\n');
  symlinkSync(path('root'), path('linked-root'));
  symlinkSync(path('outside'), path('root/link-out'));
  symlinkSync('data', path('root/link-in'));
  server = await startServer({ args: ['--volume-root', path('linked-root'), '--volume-root', path('second')] });
});
afterAll(async () => {
  await server.close();
  rmSync(top, { recursive: true, force: true });
});

const create = (hostPath: string, readonly = true) =>
  server.call({
    method: 'POST', path: '/v1/boxes',
    body: { image: 'base', cpu: 1, memory_mb: 64, volumes: [{ host_path: hostPath, guest_path: '/v', readonly }] },
  });
const inBox = async (box: string, script: string) => (await server.client.exec(box, ['sh', '-c', script])).stdout;

describe('with --volume-root', () => {
  test('what lies below one of them is mounted, also by a link that stays there', async () => {
    for (const name of ['root/data', 'root/link-in', 'linked-root/data']) {
      const answer = await create(path(name));
      expect([name, answer.status]).toEqual([name, 201]);
      expect(answer.json['volumes']).toEqual([{ host_path: path('root/data'), guest_path: '/v', readonly: true }]);
      expect(await inBox(String(answer.json['id']), 'cat /v/file')).toBe('data\n');
    }
    expect((await create(path('second'))).status).toBe(201);
  });

  for (const name of ['outside', 'root-beside', 'root/../outside', 'root/link-out', 'root/link-out/secret', '']) {
    attack(`mounting ${name === '' ? 'the directory above' : name}`, async () => refusalOf(await create(path(name)), 'FORBIDDEN'));
  }
  for (const host of ['/', '/etc/shadow', '/proc/self/root', '/proc/1/root/etc', '/var/run/docker.sock']) {
    attack(`mounting ${host}`, async () => {
      const answer = await create(host);
      return refusalOf(answer, answer.json.code === 'RUNTIME_ERROR' ? 'RUNTIME_ERROR' : 'FORBIDDEN');
    });
  }

  attack('swapping the directory for a link out of it before the next start', async () => {
    mkdirSync(path('root/swapped'));
    const id = String((await create(path('root/swapped'))).json['id']);
    await server.client.stopBox(id);
    renameSync(path('root/swapped'), path('root/was'));
    symlinkSync(path('outside'), path('root/swapped'));
    const how = refusalOf(await server.call({ method: 'POST', path: `/v1/boxes/${id}:start` }), 'FORBIDDEN');
    rmSync(path('root/swapped'));
    renameSync(path('root/was'), path('root/swapped'));
    expect((await server.call({ method: 'POST', path: `/v1/boxes/${id}:start` })).status).toBe(200);
    return how;
  });

  attack('a box planting a link in its volume, for a second box to follow', async () => {
    const first = String((await create(path('second'), false)).json['id']);
    await inBox(first, `ln -s ${path('outside')} /v/planted`);
    return refusalOf(await create(path('second/planted')), 'FORBIDDEN');
  });

  attack('writing to a volume that is read-only', async () => {
    const id = String((await create(path('root/data'))).json['id']);
    const said = await inBox(id, 'touch /v/x 2>&1; mount -o remount,rw /v 2>&1; echo x > /v/file 2>&1');
    expect(said).toMatch(/Read-only file system/);
    expect(await inBox(id, 'cat /v/file')).toBe('data\n');
    return 'Read-only file system';
  });
});
