// Tests a real server whose state directory is on a small disk that becomes full. Programs get ENOSPC, written data is
// not lost, the API and /readyz report the full disk, and boxes can still be removed.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BoxHandle } from '../../src/sdk/index.ts';
import { getLocal } from '../support/servers/local-http.ts';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';

const mib = 2 ** 20;
let directory: string;
let disk: string;
let server: CrashServer;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-full-'));
  disk = join(directory, 'disk');
  mkdirSync(disk);
  const image = join(directory, 'image');
  writeFileSync(image, '');
  truncateSync(image, 640 * mib);
  execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', image]);
  execFileSync('mount', ['-o', 'loop,discard', image, disk]);
  const stateDir = join(disk, 'state');
  mkdirSync(stateDir);
  server = await startCrashServer({ stateDir, args: ['--workers', '0', '--min-free-disk-mb', '0'] });
});
afterAll(async () => {
  await server.close();
  execFileSync('umount', ['--lazy', disk]);
  rmSync(directory, { recursive: true, force: true });
});

const freeBytes = () => {
  const { bavail, bsize } = statfsSync(disk);
  return bavail * bsize;
};
const createBox = (name: string) =>
  server.client.create({ image: 'base', name, cpu: 1, memory_mb: 256, disk_size_gb: 1 });
async function run(box: BoxHandle, script: string) {
  return collect(server.client, await server.client.startExec(box.id, { cmd: ['sh', '-c', script] }));
}

it(
  'two boxes on a full host disk get ENOSPC, keep their data, report the full disk, and can be removed',
  { timeout: 240_000 },
  async () => {
    const seen: string[] = [];
    const watching = new AbortController();
    const events = (async () => {
      for await (const event of server.client.events({ signal: watching.signal }))
        if (event.type === 'box.changed') seen.push(`${event.box.name ?? ''} ${event.box.error_code ?? 'well'}`);
    })().catch(() => undefined);
    const boxes = [await createBox('one'), await createBox('two')];
    // Each box writes files until one does not fit. The first box waits until each file is on the disk. The second box
    // calls `sync` at the end.
    const fill = (how: string) =>
      `n=0; while dd if=/dev/urandom of=/root/f$n bs=1M count=8 ${how} 2>/dev/shm/said; do n=$((n+1)); done; cat /dev/shm/said; rm /root/f$n; sync && echo synced; cat /root/f* | md5sum`;
    const filled = await Promise.all(boxes.map((box, index) => run(box, fill(index === 0 ? 'conv=fsync' : ''))));
    for (const { stdout } of filled) {
      expect(stdout).toContain('No space left on device');
      expect(stdout).not.toContain('Input/output error');
      expect(stdout).toContain('synced');
    }
    expect(freeBytes()).toBeGreaterThan(64 * mib);
    await eventually(
      'both boxes report it',
      async () => (await server.client.listBoxes()).every(({ error_code: code }) => code === 'RESOURCE_EXCEEDED'),
      20_000,
    );
    for (const { status, error_message: message } of await server.client.listBoxes()) {
      expect(status).toBe('running');
      expect(message).toContain('disk of the host is nearly full');
    }
    await eventually(
      'clients were told',
      async () => seen.includes('one RESOURCE_EXCEEDED') && seen.includes('two RESOURCE_EXCEEDED'),
    );
    const ready = await getLocal(server.stateDir, '/readyz');
    expect({ status: ready.status, ...(JSON.parse(ready.text) as object) }).toMatchObject({
      status: 503,
      parts: { disk: false, supervisor: true },
    });
    const sum = (text: string | undefined) => /[0-9a-f]{32}/.exec(text ?? '')?.[0];
    for (const [index, box] of boxes.entries()) {
      await box.stop();
      await box.start();
      expect(sum((await run(box, 'cat /root/f* | md5sum')).stdout)).toBe(sum(filled[index]?.stdout));
    }
    // Another program fills the rest of the disk.
    execFileSync('sh', ['-c', 'cat /dev/zero >"$1" 2>/dev/null || :', 'sh', join(disk, 'other')]);
    expect(freeBytes()).toBeLessThan(mib);
    for (const box of boxes) await box.remove({ force: true });
    expect(await server.client.listBoxes()).toEqual([]);
    rmSync(join(disk, 'other'));
    const again = await createBox('again');
    await eventually(
      'the server is ready',
      async () => (await getLocal(server.stateDir, '/readyz')).status === 200,
      20_000,
    );
    expect(
      (await run(again, 'dd if=/dev/zero of=/root/f bs=1M count=64 conv=fsync 2>/dev/null && echo written')).stdout,
    ).toBe('written\n');
    watching.abort();
    await events;
  },
);
