// Tests two boxes on real micro-VMs at once, and a box over stop and start, through the API. Tests the probe alone.
// These tests boot several VMs, which takes long in the emulated host.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { probeBoxliteHost } from '../../src/worker/drivers/boxlite/vm/vm-probe.ts';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { stateDir } from '../vm/support/boxlite-box.ts';

const box = { image: 'base', cpu: 1, memory_mb: 256, disk_size_gb: 1 };

describe('boxes on micro-VMs', () => {
  let server: CrashServer;
  beforeAll(async () => {
    server = await startCrashServer({ driver: 'boxlite', args: ['--workers', '0'] });
    await server.client.create({ ...box, name: 'api' });
  }, 240_000);
  afterAll(async () => {
    await server.close();
  }, 120_000);
  const run = async (name: string, script: string) =>
    collect(server.client, await server.client.startExec(name, { cmd: ['sh', '-c', script] }));

  it('keeps its disk over stop and start', async () => {
    await run('api', 'echo kept > /root/file; sync');
    await server.client.stopBox('api');
    await expect(server.client.startExec('api', { cmd: ['true'] })).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    await server.client.startBox('api');
    expect((await run('api', 'cat /root/file')).stdout).toBe('kept\n');
  });

  it('runs beside another one, and both answer at once', async () => {
    const shared = join(server.stateDir, 'shared');
    mkdirSync(shared);
    writeFileSync(join(shared, 'file'), 'read only', { mode: 0o600 });
    const volumes = [{ host_path: shared, guest_path: '/data', readonly: true }];
    await server.client.create({ ...box, name: 'second', volumes });
    const outputs = await Promise.all(
      ['api', 'second'].map((name) => run(name, 'cat /proc/sys/kernel/random/boot_id')),
    );
    expect(new Set(outputs.map(({ stdout }) => stdout)).size).toBe(2);
    const files = server.client.files('second');
    expect(await files.readText('/data/file')).toBe('read only');
    expect(await (await server.client.download('second', '/proc/version')).text()).toContain('Linux');
    await files.downloadDir('/data', join(server.stateDir, 'copy'));
    expect(readFileSync(join(server.stateDir, 'copy/file'), 'utf8')).toBe('read only');
    expect(statSync(join(server.stateDir, 'copy/file')).mode & 0o777).toBe(0o600);
    await expect(files.write('/data/file', 'x')).rejects.toMatchObject({
      message: expect.stringContaining('Read-only') as string,
    });
    await server.client.removeBox('second', { force: true });
  });
});

it('the probe finds that micro-VMs work, and leaves nothing behind', async () => {
  const dir = stateDir();
  const images = join(dir, 'images');
  mkdirSync(images);
  expect(await probeBoxliteHost(images, { insecureRegistries: [], runtimeDir: null, agent: 'off' })).toEqual({
    ok: true,
    problem: null,
  });
  expect(readdirSync(images).filter((name) => name.includes('probe'))).toEqual([]);
  const processes = execFileSync('ps', ['-eo', 'args', '-ww'], { encoding: 'utf8', maxBuffer: 2 ** 24 });
  expect(processes.split('\n').filter((line) => line.includes(dir))).toEqual([]);
  rmSync(dir, { recursive: true });
});
