// What a hostile command in a box of the container driver can do: each attempt is made for real and must be refused. And the limits on
// memory, processes, CPU and disk, which must bite.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import { idShift } from '../../src/worker/drivers/container/bundle.ts';
import { describeOnHost, useBoxes } from '../support/container-boxes.ts';
import type { DriverHarness } from '../support/driver-harness.ts';

const boxes = useBoxes();
let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-test-isolation-'));
  execFileSync('gcc', ['-static', '-O1', '-o', join(dir, 'syscalls'), join(import.meta.dirname, '../fixtures/syscalls.c')]);
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

const { EPERM, EAFNOSUPPORT } = constants.errno;
const ENOSYS = constants.errno.ENOSYS;

async function sh(box: DriverHarness, script: string) {
  const { stdout, stderr, exit } = await box.run(['sh', '-c', script]);
  return { out: stdout.trim(), err: stderr.trim(), code: 'exitCode' in exit ? exit.exitCode : -1 };
}

describeOnHost('a hostile command as root', () => {
  test('makes no dangerous system call', async () => {
    const box = await boxes.started({ spec: { volumes: [{ host_path: dir, guest_path: '/probe', readonly: true }] } });
    const { stdout } = await box.run(['/probe/syscalls']);
    const results = new Map(stdout.trim().split('\n').map((line) => line.split(' ') as [string, string]));
    const allowed = ['inet_socket', 'unix_socket'];
    for (const name of allowed) expect([name, results.get(name)]).toEqual([name, '0']);
    const answers: Record<string, number> = { clone3: ENOSYS, personality: ENOSYS, vsock_socket: EAFNOSUPPORT, alg_socket: EAFNOSUPPORT, packet_socket: EAFNOSUPPORT };
    const refused = [...results].filter(([name]) => !allowed.includes(name));
    expect(refused.length).toBeGreaterThan(40);
    for (const [name, errno] of refused) expect([name, Number(errno)]).toEqual([name, answers[name] ?? EPERM]);
  });

  test('has few capabilities, cannot gain any, and is filtered', async () => {
    const box = await boxes.started();
    const { out } = await sh(box, 'grep -E "^(Cap|NoNewPrivs|Seccomp):?" /proc/self/status');
    expect(out).toContain('CapEff:\t00000000a00405fb');
    expect(out).toContain('CapBnd:\t00000000a00405fb');
    expect(out).toContain('NoNewPrivs:\t1');
    expect(out).toContain('Seccomp:\t2');
    const other = await box.run(['sh', '-c', 'grep -E "^Cap(Eff|Prm|Inh|Amb)" /proc/self/status'], { user: '1000', workdir: '/' });
    expect(other.stdout.match(/0000000000000000/g)).toHaveLength(4);
  });

  test('is nobody on the host', async () => {
    const box = await boxes.started();
    const handle = await box.exec(['sh', '-c', 'echo $$; exec sleep 1000']);
    await once(handle.stdout, 'data');
    const shifted = execFileSync('ps', ['-eo', 'uid,args'], { encoding: 'utf8' }).split('\n').filter((line) => line.endsWith('sleep 1000'));
    expect(shifted.map((line) => Number(line.trim().split(' ')[0]))).toEqual([idShift.base]);
    await handle.killTree();
  });

  test('sees no process, mount, interface, host name or control group of the host', async () => {
    const box = await boxes.started();
    expect((await sh(box, 'ls /proc | grep -cE "^[0-9]+$"')).out).toMatch(/^[1-9]$/);
    const mounts = await sh(box, 'cat /proc/self/mountinfo');
    expect(mounts.out).not.toContain(box.context.homeDir);
    expect(mounts.out).not.toContain(box.context.imagesDir.concat('/rootfs'));
    expect(await sh(box, 'ls /sys/class/net; cat /sys/class/net/lo/operstate; ip addr show lo | grep -c "inet 127.0.0.1"')).toMatchObject({ out: 'lo\nunknown\n1' });
    expect((await sh(box, 'hostname')).out).not.toBe(execFileSync('hostname', { encoding: 'utf8' }).trim());
    expect((await sh(box, 'cut -d: -f3 /proc/self/cgroup | sort -u')).out).toMatch(/^\/(\n\/exec_[\w-]+)?$/);
    expect((await sh(box, 'env; cat /proc/1/environ | tr "\\0" "\\n"')).out).not.toContain('BOXRUN');
    expect((await sh(box, 'ls -l /proc/1/fd | grep -vE " -> (/dev/null|anon_inode:.*)$|^total"')).out).toBe('');
    expect((await sh(box, 'ls -l /proc/self/fd | grep -E "socket|cgroup|log"')).out).toBe('');
  });

  test.each([
    ['write kernel settings', 'echo 1 > /proc/sys/kernel/sysrq'],
    ['write other kernel files', 'echo b > /proc/sysrq-trigger'],
    ['set the core pattern', 'echo "|/tmp/x" > /proc/sys/kernel/core_pattern'],
    ['write to /sys', 'echo 1 > /sys/kernel/profiling || touch /sys/kernel/x'],
    ['leave its control group', 'for f in $(find /sys/fs/cgroup -name cgroup.procs); do echo $$ > $f && echo ok && break; done; exit 1'],
    ['make a control group', 'for f in $(find /sys/fs/cgroup -name cgroup.procs); do mkdir ${f%/*}/x && exit 0; done; exit 1'],
    ['mount', 'mount -t tmpfs x /tmp || mount -t proc x /tmp || mount -o bind /etc /tmp'],
    ['remount its root or the driver\'s programs', 'mount -o remount,rw /dev/.boxrun || mount -o remount,dev /'],
    ['unmount', 'umount /proc/kcore || umount /sys/firmware || umount /dev/.boxrun || umount -l /proc'],
    ['replace the driver\'s programs', 'mv /dev/.boxrun /dev/x || rm -rf /dev/.boxrun || cp /bin/ls /dev/.boxrun/busybox || touch /dev/.boxrun/x'],
    ['make namespaces', 'unshare -m true || unshare -U true || unshare -n true || unshare -p true'],
    ['enter namespaces', 'nsenter -t 1 -m true'],
    ['make a device', 'mknod /tmp/sda b 8 0 || mknod /tmp/mem c 1 1 || mknod /dev/kvm c 10 232'],
    ['load modules', 'insmod /etc/passwd || modprobe loop || rmmod loop'],
    ['use raw sockets', 'ping -c1 -W1 127.0.0.1 || arping -c1 127.0.0.1'],
    ['change its network', 'ip link add d type dummy || ip addr add 10.9.9.9/8 dev lo || ip link set lo down || ip route add default dev lo'],
    ['set the clock or the host name', 'date -s 2000-01-01; hostname other || [ $(date +%Y) -lt 2020 ]'],
    ['raise its limits', 'ulimit -n 10000000 || ulimit -Hn 10000000'],
    ['make itself hard to kill', 'echo -1000 > /proc/self/oom_score_adj'],
    ['read the kernel', 'cat /proc/kcore | head -c1 | grep . || cat /proc/keys | grep . || cat /proc/timer_list | grep . || dmesg || ls /sys/firmware | grep .'],
    ['escape by a second chroot', 'mkdir -p /tmp/c && cp /bin/busybox /tmp/c/ && chroot /tmp/c /busybox sh -c "cd ../../../../..; ./busybox ls etc/hostname"'],
    ['get root back from setuid', 'cp /bin/busybox /tmp/su && chmod 4755 /tmp/su && setuidgid 1000 /tmp/su cat /root/.secret'],
  ])('cannot %s', async (_what, script) => {
    const box = await boxes.started();
    expect((await sh(box, script)).code).not.toBe(0);
  });

  test('cannot write to the runtime through /proc/self/exe or the first process', async () => {
    const box = await boxes.started();
    expect((await sh(box, 'echo x > /proc/1/exe || echo x >> /dev/.boxrun/init')).code).not.toBe(0);
    // A program that is only `#!/proc/self/exe` would run the runtime itself if it could be reached.
    await sh(box, 'printf "#!/proc/self/exe\\n" > /root/trap; chmod +x /root/trap');
    const { stderr, exit } = await box.run(['/root/trap', '--version']);
    expect(exit).not.toEqual({ exitCode: 0 });
    expect(stderr).not.toContain('crun');
    const before = readFileSync('/usr/bin/crun').length;
    expect((await box.run(['true'])).exit).toEqual({ exitCode: 0 });
    expect(readFileSync('/usr/bin/crun').length).toBe(before);
  });

  test('cannot reach the host by links, in places that the driver itself writes or reads', async () => {
    const marker = join(dir, 'host-file');
    writeFileSync(marker, 'host\n');
    const box = await boxes.started();
    await sh(box, `rm -rf /etc/passwd /etc/group; ln -s ${marker} /etc/passwd; ln -s / /tmp/host; ln -sfn ${dir} /root/link; rm -rf /home; ln -s ${dir} /home`);
    expect((await sh(box, 'ls /tmp/host/etc; cat /root/link/host-file')).out).not.toContain('host-file');
    await expect(box.run(['id'], { user: 'host' })).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    await box.driver.stop(0);
    await box.start();
    expect((await sh(box, 'true')).code).toBe(0);
    expect(readFileSync(marker, 'utf8')).toBe('host\n');
  });

  test('cannot plant links where files and volumes are mounted at the next start', async () => {
    const box = await boxes.started({ spec: { volumes: [{ host_path: dir, guest_path: '/data/inner', readonly: true }] } });
    const evil = join(dir, 'evil');
    mkdirSync(evil);
    await sh(box, `rm -rf /opt; ln -s ${evil} /opt`);
    await box.driver.stop(0);
    await box.start();
    expect((await sh(box, 'cat /data/inner/evil/x')).code).not.toBe(0);
    expect(execFileSync('ls', [evil], { encoding: 'utf8' })).toBe('');
  });
});

describeOnHost('limits', () => {
  test('memory: what does not fit is killed, and the box lives on', async () => {
    const box = await boxes.started({ spec: { memoryMb: 64 } });
    expect((await sh(box, 'tail /dev/zero')).code).toBe(137);
    expect((await sh(box, 'echo alive')).out).toBe('alive');
    expect((await sh(box, 'dd if=/dev/zero of=/dev/shm/x bs=1M count=100')).code).not.toBe(0);
  });

  test('processes: a fork bomb finds its end, and can be killed', async () => {
    const box = await boxes.started({ spec: { memoryMb: 2048 } });
    const bomb = await box.exec(['sh', '-c', 'b() { b & b & wait; }; b']);
    bomb.stdout.resume();
    await once(bomb.stderr, 'data');
    bomb.stderr.resume();
    const counted = execFileSync('find', ['/sys/fs/cgroup', '-path', `*/${box.boxId}/pids.current`, '-exec', 'cat', '{}', ';'], { encoding: 'utf8' });
    expect(Number(counted)).toBeGreaterThan(limits.boxProcessesMax / 2);
    expect(Number(counted)).toBeLessThanOrEqual(limits.boxProcessesMax);
    await bomb.killTree();
    // The first process of the box may still be reaping the dead.
    expect((await sh(box, 'ps -o stat,args | grep -v "^Z" | grep -c "[b]() "')).out).toBe('0');
  });

  test('CPU: one busy box of one CPU takes no more than one', async () => {
    const box = await boxes.started({ spec: { cpu: 1 } });
    const busy = await box.exec(['sh', '-c', 'for i in 1 2 3 4; do (while :; do :; done) & done; echo up; wait']);
    await once(busy.stdout, 'data');
    const before = (await box.driver.metrics()).cpuSeconds;
    const startedAt = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const used = (await box.driver.metrics()).cpuSeconds - before;
    expect(used / ((performance.now() - startedAt) / 1000)).toBeLessThan(1.25);
    await busy.killTree();
  });

  test('disk: full is full, also through the files that the driver mounts, and the host does not notice', async () => {
    const box = await boxes.started({ spec: { diskSizeGb: 1 } });
    const filled = await sh(box, 'dd if=/dev/zero of=/root/big bs=1M count=1200');
    expect(filled.err).toContain('No space left on device');
    expect((await sh(box, 'dd if=/dev/zero of=/etc/hosts bs=1M count=10')).err).toContain('No space left');
    expect((await sh(box, 'rm /root/big; echo ok > /root/small && cat /root/small')).out).toBe('ok');
  });

  test('memory and CPU are told by metrics', async () => {
    const box = await boxes.started();
    await sh(box, 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done');
    const { cpuSeconds, memoryBytes } = await box.driver.metrics();
    expect(cpuSeconds).toBeGreaterThan(0.02);
    expect(memoryBytes).toBeGreaterThan(50_000);
  });
});
