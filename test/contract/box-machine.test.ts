// Tests the machine that a program in a box sees, on a real server: devices, files of the kernel, signals, descriptors,
// orphaned processes, and how far the network of a box reaches.
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ env: { HTTP_PROXY: 'http://192.0.2.1:1', https_proxy: 'http://192.0.2.1:1' } });
  for (const name of ['web', 'one', 'two'])
    await server.client.create({ image: 'base', name, cpu: 1, memory_mb: 128, network: name !== 'web' });
});
afterAll(async () => {
  await server.close();
});

async function run(script: string, { box = 'web', user = '0' } = {}) {
  const { stdout, stderr, exitCode } = await server.client.exec(box, { cmd: ['sh', '-c', script], user });
  return { out: stdout, err: stderr, code: exitCode };
}

describe('the devices of a box', () => {
  it.each(['0', '1000'])('are the usual ones, and user %s may open them', async (user) => {
    const { out } = await run('ls /dev', { user });
    expect(out.trim().split('\n')).toEqual(
      'core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero'.split(' '),
    );
    const opened = await run(
      'for name in null zero full random urandom ptmx; do : <>/dev/$name && echo $name; done; head -c 4 /dev/urandom | wc -c',
      { user },
    );
    expect(opened.out).toBe('null\nzero\nfull\nrandom\nurandom\nptmx\n4\n');
    expect((await run('echo x >/dev/full', { user })).err).toContain('No space left on device');
    expect((await run('touch /dev/shm/x /dev/mqueue/x 2>&1; ls /dev/shm', { user })).out).toContain('x\n');
    await run('rm -f /dev/shm/x /dev/mqueue/x');
  });

  it('cannot become more, and nothing can be mounted, even by root', async () => {
    for (const refused of ['mknod /n c 1 3', 'mknod /n b 7 0', 'mount -t tmpfs x /mnt', 'umount /dev/shm'])
      expect([refused, (await run(`mkdir -p /mnt; ${refused}`)).code]).toEqual([refused, 1]);
    for (const refused of ['unshare -U true', 'unshare -m true', 'unshare -n true'])
      expect([refused, (await run(refused)).err]).toEqual([refused, expect.stringContaining('not permitted')]);
    expect(await run('mkfifo /f && test -p /f && chroot / true')).toMatchObject({ code: 0 });
  });
});

describe('the kernel of a box', () => {
  it('takes no settings from a box: /proc/sys, /sys, the clock, the host name', async () => {
    for (const place of ['/proc/sys/vm/drop_caches', '/proc/sys/kernel/shmmax', '/sys/kernel/mm/ksm/run'])
      expect((await run(`echo 1 >${place}`)).err).toContain('Read-only file system');
    for (const refused of ['date -s 2001-01-01', 'hostname other', 'dmesg'])
      expect((await run(refused)).err).toContain('not permitted');
  });

  it('shows the processors and the memory of the host, and the limit of the box in its cgroup', async () => {
    const { out } = await run('grep -c ^processor /proc/cpuinfo; nproc; grep MemTotal /proc/meminfo');
    const [shown, usable, memory = ''] = out.split('\n');
    expect(Number(shown)).toBeGreaterThanOrEqual(Number(usable));
    expect(Number(/\d+/.exec(memory)?.[0])).toBeGreaterThan(128 * 1024);
    const limit = await run('cat /sys/fs/cgroup/memory.max || cat /sys/fs/cgroup/memory/memory.limit_in_bytes');
    expect(limit.out).toBe(`${128 * 1024 * 1024}\n`);
  });
});

describe('a command', () => {
  it.each([
    ['through pipes', null],
    ['in a terminal', { cols: 80, rows: 24 }],
  ])('%s starts without blocked or ignored signals, and with three descriptors', async (_how, tty) => {
    // The shell itself may have 10 open. In a pipe line it would also have the pipe for a moment.
    const script =
      'grep -E "Sig(Blk|Ign)" /proc/self/status; ls /proc/$$/fd > /tmp/fds; grep -v 10 /tmp/fds; rm /tmp/fds';
    for (const user of ['0', '1000']) {
      const terminal = tty === null ? {} : { tty: true, ...tty };
      const { stdout } = await server.client.exec('web', { cmd: ['sh', '-c', script], user, ...terminal });
      expect(stdout.replaceAll('\r', '')).toBe('SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n1\n2\n');
    }
  });

  it('leaves no zombies when its orphaned children end', async () => {
    await run('for i in 1 2 3 4 5; do (sh -c "exit 3" &); done');
    await eventually('no zombie is left', async () => (await run('grep -l "State:.Z" /proc/[0-9]*/status')).out === '');
  });

  it('gets no proxy variables from the server', async () => {
    expect((await run('env')).out).not.toMatch(/proxy/i);
  });
});

describe('the network of a box', () => {
  it('is the loopback interface alone without `network`, with IPv4 and IPv6', async () => {
    expect((await run("ip addr | grep -o 'inet6* [^ ]*'; ip route; cat /etc/resolv.conf")).out).toBe(
      'inet 127.0.0.1/8\ninet6 ::1/128\n',
    );
  });

  it('does not lead to other boxes, and from outside to no box', async () => {
    const listener = await server.client.startExec('two', ['sh', '-c', 'nc -l -p 7777 0.0.0.0']);
    await eventually('the listener listens', async () =>
      (await run('netstat -ltn', { box: 'two' })).out.includes(':7777'),
    );
    for (const address of ['10.0.2.100', '10.0.2.15', '127.0.0.1'])
      expect((await run(`nc -w 2 ${address} 7777 </dev/null`, { box: 'one' })).code).toBe(1);
    const connection = createConnection({ host: '127.0.0.1', port: 7777 });
    const [error] = (await once(connection, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
    await server.client.cancelExec('two', listener.id);
  });

  it('fails at once for IPv6 addresses of other machines', async () => {
    for (const box of ['web', 'one'])
      expect((await run('nc -w 5 2001:db8::1 80 </dev/null', { box })).err).toContain('Network is unreachable');
  });
});
