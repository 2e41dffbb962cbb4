// Attacks by a hostile command in a micro-VM. It is root of its own kernel and may ruin it, but each attack must end
// there: the host, other boxes, and what boxes share (volumes, the programs of the driver, the disk of an image) stay
// unchanged.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { attack } from '../support/security/attacks.ts';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 256, disk_size_gb: 1 };
let server: CrashServer;
let dir: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-test-vm-hostile-'));
  writeFileSync(join(dir, 'file'), 'as it was\n');
  server = await startCrashServer({ driver: 'boxlite', args: ['--workers', '0'] });
  const volumes = [{ host_path: dir, guest_path: '/shared', readonly: true }];
  await server.client.create({ ...small, name: 'hostile', volumes });
  await server.client.create({ ...small, name: 'neighbour' });
}, 240_000);
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
}, 120_000);

async function sh(name: string, script: string) {
  const { stdout, stderr, exit } = await collect(
    server.client,
    await server.client.startExec(name, { cmd: ['sh', '-c', script] }),
  );
  return { out: stdout.trim(), err: stderr.trim(), code: exit.exitCode };
}

describe('a hostile command in a micro-VM', () => {
  attack('sees processes, mounts, name or interfaces of the host, or the settings of BoxRun', async () => {
    const seen = await sh(
      'hostile',
      'ps; cat /proc/mounts; hostname; ls /sys/class/net; env; cat /proc/*/environ | tr "\\0" "\\n"; cat /proc/cmdline',
    );
    for (const secret of [server.stateDir, dir, `node ${process.argv[1] ?? 'vitest'}`, 'BOXRUN_', 'BOXLITE_'])
      expect(seen.out).not.toContain(secret);
    expect(seen.out.split('\n')).not.toContain(hostname());
    expect((await sh('hostile', 'uname -r')).out).not.toBe(execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim());
    return 'it has its own kernel, processes, mounts and name';
  });

  attack('writes to a read-only volume, also after mounting it again', async () => {
    const script =
      'echo x > /shared/file; touch /shared/new; mount -o remount,rw /shared; echo x > /shared/file; rm -f /shared/file; ' +
      'tag=$(grep " /shared " /proc/mounts | cut -d" " -f1); mkdir -p /tmp/again; mount -t virtiofs "$tag" /tmp/again; echo x > /tmp/again/file; touch /tmp/again/new; ls /tmp/again';
    await sh('hostile', script);
    expect(readFileSync(join(dir, 'file'), 'utf8')).toBe('as it was\n');
    expect(execFileSync('ls', [dir], { encoding: 'utf8' })).toBe('file\n');
    return 'the host does not write it';
  });

  attack('leaves a volume by ..', async () => {
    const { out } = await sh('hostile', 'cat /shared/../etc/hostname /shared/../../etc/hostname 2>&1; ls /shared/..');
    expect(out.split('\n')).not.toContain(hostname());
    return 'the directory above it is the one of the box';
  });

  attack('replaces the programs of the driver for other boxes', async () => {
    await sh(
      'hostile',
      'for m in $(grep virtiofs /proc/mounts | cut -d" " -f2); do mount -o remount,rw $m; for f in $m/*; do echo x > $f; rm -f $f; done; done',
    );
    expect(await sh('neighbour', 'echo well')).toMatchObject({ out: 'well', code: 0 });
    expect((await server.client.create({ ...small, name: 'third' })).status).toBe('running');
    expect(await sh('third', 'echo well')).toMatchObject({ out: 'well', code: 0 });
    await server.client.removeBox('third', { force: true });
    return 'existing boxes and new ones run as before';
  });

  attack('reaches a service of the host, from a box without a network', async () => {
    const listening = createServer((socket) => socket.end('secret')).listen(0, '0.0.0.0');
    await once(listening, 'listening');
    const { port } = listening.address() as AddressInfo;
    const addresses = [
      '127.0.0.1',
      '10.0.2.2',
      '169.254.169.254',
      ...execFileSync('hostname', ['-I'], { encoding: 'utf8' })
        .split(/\s+/)
        .filter((each) => each.includes('.')),
    ];
    const { out } = await sh(
      'hostile',
      addresses.map((address) => `echo | timeout 2 nc -w 2 ${address} ${port} 2>&1`).join('; '),
    );
    listening.close();
    expect(out).not.toContain('secret');
    return `${addresses.length} addresses: ${out.split('\n')[0] ?? 'no answer'}`;
  });

  attack('fills its disk, to make the host lose more than the size of the box', async () => {
    const free = () => {
      const { bavail, bsize } = statfsSync(server.stateDir);
      return (bavail * bsize) / 2 ** 20;
    };
    const before = free();
    const { code, err } = await sh(
      'hostile',
      'dd if=/dev/zero of=/root/full bs=1M count=3000 2>&1 >/dev/null | tail -1; dd if=/dev/zero of=/root/more bs=1M count=10',
    );
    const lost = before - free();
    await sh('hostile', 'rm -f /root/full /root/more');
    expect(code).not.toBe(0);
    expect(lost).toBeLessThan(1_300);
    return `${err.split('\n').find((line) => /space/.test(line)) ?? err}; ${lost.toFixed(0)} MB of the host`;
  });

  attack('uses up its memory and its processes, to disturb its neighbour', async () => {
    const bomb = 'f() { f | f & }; f; x=a; while :; do x=$x$x; done';
    const exec = await server.client.startExec('hostile', { cmd: ['sh', '-c', bomb], timeout_ms: 4_000 });
    const during = await sh('neighbour', 'echo well');
    expect(during).toMatchObject({ out: 'well', code: 0 });
    const { exit } = await collect(server.client, exec);
    expect(exit.exitCode === 0).toBe(false);
    return `it ended with ${exit.error ?? `exit code ${exit.exitCode ?? '?'}`}`;
  });

  attack('overwrites every block device that it finds, to damage other boxes of the same image', async () => {
    await server.client.removeBox('hostile', { force: true });
    await server.client.create({ ...small, name: 'hostile' });
    await sh(
      'hostile',
      'for d in $(ls /sys/block); do dd if=/dev/zero of=/dev/$d bs=1M count=64 conv=notrunc; done; sync; mknod /tmp/host b 8 0; dd if=/dev/zero of=/tmp/host bs=1M count=1; sync',
    ).catch(() => undefined);
    expect(await sh('neighbour', 'cat /bin/busybox | wc -c; echo well')).toMatchObject({ code: 0 });
    await server.client.removeBox('hostile', { force: true });
    await server.client.create({ ...small, name: 'after' });
    expect(await sh('after', 'ls /bin | wc -l; echo well')).toMatchObject({
      out: expect.stringContaining('well') as unknown,
      code: 0,
    });
    return 'only its own disk is damaged';
  });
});
