// Attacks on --volume-root, on a real server: a box may mount only directories below it. The server resolves all links
// at the create, and again at each start.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { attack, refusalOf } from '../support/security/attacks.ts';
import { startServer, type Answer, type TestServer } from '../support/servers/server.ts';

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
    method: 'POST',
    path: '/v1/boxes',
    body: { image: 'base', cpu: 1, memory_mb: 64, volumes: [{ host_path: hostPath, guest_path: '/v', readonly }] },
  });
const inBox = async (box: string, script: string) => (await server.client.exec(box, ['sh', '-c', script])).stdout;

/** What may come of a start while its directory is being replaced. */
const allowedOutcomes: ReadonlySet<string> = new Set([
  'started with the directory',
  'FORBIDDEN before the mount',
  'FORBIDDEN after the mount',
  'RUNTIME_ERROR',
]);

/** Tells by the message which of the two checks refused. A FORBIDDEN with another message is no allowed outcome. */
function outcomeOf({ code, message = '' }: Answer['json']): string {
  if (code === undefined) return 'started with the directory';
  if (code !== 'FORBIDDEN') return code;
  if (message.includes('where this server mounts nothing')) return 'FORBIDDEN before the mount';
  if (message.includes('changed during the start of the box')) return 'FORBIDDEN after the mount';
  return `FORBIDDEN: ${message}`;
}

describe('a client of a server with --volume-root', () => {
  test('can mount a directory below a volume root, also through a link that stays below it', async () => {
    for (const name of ['root/data', 'root/link-in', 'linked-root/data']) {
      const answer = await create(path(name));
      expect([name, answer.status]).toEqual([name, 201]);
      expect(answer.json['volumes']).toEqual([{ host_path: path('root/data'), guest_path: '/v', readonly: true }]);
      expect(await inBox(String(answer.json['id']), 'cat /v/file')).toBe('data\n');
    }
    expect((await create(path('second'))).status).toBe(201);
  });

  for (const name of ['outside', 'root-beside', 'root/../outside', 'root/link-out', 'root/link-out/secret', '']) {
    attack(`mounts ${name === '' ? 'the directory above' : name}`, async () =>
      refusalOf(await create(path(name)), 'FORBIDDEN'),
    );
  }
  for (const host of ['/', '/etc/shadow', '/proc/self/root', '/proc/1/root/etc', '/var/run/docker.sock']) {
    attack(`mounts ${host}`, async () => {
      const answer = await create(host);
      return refusalOf(answer, answer.json.code === 'RUNTIME_ERROR' ? 'RUNTIME_ERROR' : 'FORBIDDEN');
    });
  }

  attack('replaces its directory by a link before the next start', async () => {
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

  attack('replaces it many times during starts of a box', async () => {
    mkdirSync(path('root/flip/inner'), { recursive: true });
    const script = `
      import { renameSync, symlinkSync, unlinkSync } from 'node:fs';
      const [at, real, out] = ${JSON.stringify([path('root/flip/inner'), path('root/flip/real'), path('outside')])};
      const wait = (ms) => { for (const end = performance.now() + ms; performance.now() < end;); };
      process.stdout.write('up\\n');
      for (;;) { renameSync(at, real); symlinkSync(out, at); wait(1); unlinkSync(at); renameSync(real, at); wait(Math.random() * 12); }`;
    const id = String((await create(path('root/flip/inner'))).json['id']);
    const flipper = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(flipper.stdout, 'data');
    const outcomes = new Map<string, number>();
    try {
      for (let time = 0; time < 12; time++) {
        await server.client.stopBox(id).catch(() => undefined);
        const answer = await server.call({ method: 'POST', path: `/v1/boxes/${id}:start` });
        if (answer.status === 200) expect(await inBox(id, 'ls /v; cat /v/secret')).not.toContain('secret');
        const outcome = outcomeOf(answer.json);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
    } finally {
      flipper.kill('SIGKILL');
      await once(flipper, 'exit');
    }
    expect([...outcomes.keys()].filter((outcome) => !allowedOutcomes.has(outcome))).toEqual([]);
    // The flipper was killed at any point. With the directory in its place, the box must start again.
    if (existsSync(path('root/flip/real'))) {
      rmSync(path('root/flip/inner'), { force: true });
      renameSync(path('root/flip/real'), path('root/flip/inner'));
    }
    await server.client.stopBox(id).catch(() => undefined);
    expect((await server.call({ method: 'POST', path: `/v1/boxes/${id}:start` })).status).toBe(200);
    return [...outcomes].map(([outcome, times]) => `${times} × ${outcome}`).join(', ');
  });

  attack('plants a link in a volume for a second box', async () => {
    const first = String((await create(path('second'), false)).json['id']);
    await inBox(first, `ln -s ${path('outside')} /v/planted`);
    return refusalOf(await create(path('second/planted')), 'FORBIDDEN');
  });

  attack('writes to a read-only volume', async () => {
    const id = String((await create(path('root/data'))).json['id']);
    const said = await inBox(id, 'touch /v/x 2>&1; mount -o remount,rw /v 2>&1; echo x > /v/file 2>&1');
    expect(said).toMatch(/Read-only file system/);
    expect(await inBox(id, 'cat /v/file')).toBe('data\n');
    return 'Read-only file system';
  });
});
