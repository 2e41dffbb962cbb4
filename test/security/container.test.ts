// Attacks by a hostile command as root in a real box of the container driver. Each attack must be refused, and the
// limits on memory, processes, CPU and disk must hold. Attacks that leave nothing behind share one box.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import { sharedRange } from '../../src/shared/host/id-ranges.ts';
import { attack } from '../support/security/attacks.ts';
import { describeOnHost, useBoxes } from '../support/boxes/container-boxes.ts';
import type { DriverHarness } from '../support/boxes/driver-harness.ts';

const boxes = useBoxes('file');
let dir = '';
/** The box for all attacks that leave nothing behind when they are refused. */
let shared: DriverHarness;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-test-isolation-'));
  execFileSync('gcc', [
    '-static',
    '-O1',
    '-o',
    join(dir, 'syscalls'),
    join(import.meta.dirname, '../fixtures/syscalls.c'),
  ]);
  shared = await boxes.started({ spec: { volumes: [{ host_path: dir, guest_path: '/probe', readonly: true }] } });
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

/** Attacks with a script. The script must end with an exit code other than 0. */
const attempts: readonly (readonly [what: string, script: string])[] = [
  ['writes kernel settings', 'echo 1 > /proc/sys/kernel/sysrq'],
  ['writes other kernel files', 'echo b > /proc/sysrq-trigger'],
  ['sets the core pattern', 'echo "|/tmp/x" > /proc/sys/kernel/core_pattern'],
  ['writes to /sys', 'echo 1 > /sys/kernel/profiling || touch /sys/kernel/x'],
  [
    'leaves its control group',
    'for f in $(find /sys/fs/cgroup -name cgroup.procs); do echo $$ > $f && exit 0; done; exit 1',
  ],
  [
    'makes a control group',
    'for f in $(find /sys/fs/cgroup -name cgroup.procs); do mkdir ${f%/*}/x && exit 0; done; exit 1',
  ],
  ['mounts', 'mount -t tmpfs x /tmp || mount -t proc x /tmp || mount -o bind /etc /tmp'],
  ["remounts its root or the driver's programs", 'mount -o remount,rw /dev/.boxrun || mount -o remount,dev /'],
  ['unmounts', 'umount /proc/kcore || umount /sys/firmware || umount /dev/.boxrun || umount -l /proc'],
  [
    "replaces the driver's programs",
    'mv /dev/.boxrun /dev/x || rm -rf /dev/.boxrun || cp /bin/ls /dev/.boxrun/busybox || touch /dev/.boxrun/x',
  ],
  ['makes namespaces', 'unshare -m true || unshare -U true || unshare -n true || unshare -p true'],
  ['enters namespaces', 'nsenter -t 1 -m true'],
  ['makes a device', 'mknod /tmp/sda b 8 0 || mknod /tmp/mem c 1 1 || mknod /dev/kvm c 10 232'],
  ['loads modules', 'insmod /etc/passwd || modprobe loop || rmmod loop'],
  ['uses raw sockets', 'arping -c1 127.0.0.1 || traceroute -I -m 1 -w 1 127.0.0.1'],
  [
    'changes its network',
    'ip link add d type dummy || ip addr add 10.9.9.9/8 dev lo || ip link set lo down || ip route add default dev lo',
  ],
  ['sets the clock or the host name', 'date -s 2000-01-01; hostname other || [ $(date +%Y) -lt 2020 ]'],
  ['raises its limits', 'ulimit -n 10000000 || ulimit -Hn 10000000'],
  ['makes itself hard to kill', 'echo -1000 > /proc/self/oom_score_adj'],
  [
    'reads the kernel',
    'cat /proc/kcore | head -c1 | grep . || cat /proc/keys | grep . || cat /proc/timer_list | grep . || dmesg || ls /sys/firmware | grep .',
  ],
  [
    'escapes by a second chroot',
    'mkdir -p /tmp/c && cp /bin/busybox /tmp/c/ && chroot /tmp/c /busybox sh -c "cd ../../../../..; ./busybox ls etc/hostname"',
  ],
];

describeOnHost('a hostile command as root', () => {
  attack('makes dangerous system calls (ptrace, bpf, mount, kexec, …)', async () => {
    const { stdout } = await shared.run(['/probe/syscalls']);
    const results = new Map(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.split(' ') as [string, string]),
    );
    const allowed = ['inet_socket', 'unix_socket'];
    for (const name of allowed) expect([name, results.get(name)]).toEqual([name, '0']);
    const answers: Record<string, number> = {
      clone3: ENOSYS,
      personality: ENOSYS,
      vsock_socket: EAFNOSUPPORT,
      alg_socket: EAFNOSUPPORT,
      packet_socket: EAFNOSUPPORT,
    };
    const refused = [...results].filter(([name]) => !allowed.includes(name));
    expect(refused.length).toBeGreaterThan(40);
    for (const [name, errno] of refused) expect([name, Number(errno)]).toEqual([name, answers[name] ?? EPERM]);
    return `all ${refused.length}: EPERM, or ENOSYS and EAFNOSUPPORT if programs can go on with that`;
  });

  attack('gains capabilities', async () => {
    const { out } = await sh(shared, 'grep -E "^(Cap|NoNewPrivs|Seccomp):?" /proc/self/status');
    expect(out).toContain('CapEff:\t00000000a00405fb');
    expect(out).toContain('CapBnd:\t00000000a00405fb');
    expect(out).toContain('NoNewPrivs:\t1');
    expect(out).toContain('Seccomp:\t2');
    const other = await shared.run(['sh', '-c', 'grep -E "^Cap(Eff|Prm|Inh|Amb)" /proc/self/status'], {
      user: '1000',
      workdir: '/',
    });
    expect(other.stdout.match(/0000000000000000/g)).toHaveLength(4);
    return '12 within its user namespace, none for other users, no new ones, seccomp filter on';
  });

  attack('acts as a user of the host', async () => {
    const seconds = `1000.${process.pid}`; // A number that no other test uses.
    const handle = await shared.exec(['sh', '-c', `echo $$; exec sleep ${seconds}`]);
    await once(handle.stdout, 'data');
    const shifted = execFileSync('ps', ['-eo', 'uid,args'], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.endsWith(`sleep ${seconds}`));
    expect(shifted.map((line) => Number(line.trim().split(' ')[0]))).toEqual([sharedRange.base]);
    await handle.killTree();
    return `root in the box is user ${sharedRange.base} on the host, who owns nothing`;
  });

  attack('sees processes, mounts, network or groups of the host', async () => {
    expect((await sh(shared, 'ls /proc | grep -cE "^[0-9]+$"')).out).toMatch(/^[1-9]$/);
    const mounts = await sh(shared, 'cat /proc/self/mountinfo');
    expect(mounts.out).not.toContain(shared.context.homeDir);
    expect(mounts.out).not.toContain(shared.context.imagesDir.concat('/rootfs'));
    expect(
      await sh(
        shared,
        'ls /sys/class/net; cat /sys/class/net/lo/operstate; ip addr show lo | grep -c "inet 127.0.0.1"',
      ),
    ).toMatchObject({ out: 'lo\nunknown\n1' });
    expect((await sh(shared, 'hostname')).out).not.toBe(execFileSync('hostname', { encoding: 'utf8' }).trim());
    expect((await sh(shared, 'cut -d: -f3 /proc/self/cgroup | sort -u')).out).toMatch(/^\/(\n\/exec_[\w-]+)?$/);
    expect((await sh(shared, 'env; cat /proc/1/environ | tr "\\0" "\\n"')).out).not.toContain('BOXRUN');
    expect((await sh(shared, 'ls -l /proc/1/fd | grep -vE " -> (/dev/null|anon_inode:.*)$|^total"')).out).toBe('');
    expect((await sh(shared, 'ls -l /proc/self/fd | grep -E "socket|cgroup|log"')).out).toBe('');
    return 'it sees only those of its box';
  });

  attack('kills or traces processes of the host', async () => {
    // A pid of the host names another process in the box, or none.
    const { out } = await sh(
      shared,
      `kill -0 ${process.pid} 2>&1; cat /proc/${process.pid}/environ 2>&1; ls /proc/${process.ppid}/root 2>&1`,
    );
    expect(out).toMatch(/No such process|no such process/i);
    expect(out.match(/No such file/g)).toHaveLength(2);
    return out;
  });

  for (const [what, script] of attempts) {
    attack(what, async () => {
      const { code, out, err } = await sh(shared, script);
      expect(code).not.toBe(0);
      return (err || out).split('\n')[0] || `exit ${code}`;
    });
  }

  attack('becomes root again through a setuid program', async () => {
    await sh(
      shared,
      'cp /bin/busybox /tmp/su; chmod 4755 /tmp/su; echo secret > /root/.secret; chmod 700 /root; chmod 600 /root/.secret',
    );
    const { stdout, stderr } = await shared.run(
      ['sh', '-c', 'ls -l /tmp/su; /tmp/su root -c "cat /root/.secret"; cat /root/.secret'],
      { user: '1000', workdir: '/' },
    );
    expect(stdout).toContain('-rwsr-xr-x');
    expect(stdout).not.toContain('secret');
    expect(stderr).toContain('su: must be suid to work properly'); // Although its mode has the setuid bit.
    expect(stderr).toContain('Permission denied');
    return stderr;
  });

  attack('writes to the OCI runtime through /proc/self/exe', async () => {
    const { code, err } = await sh(shared, 'echo x > /proc/1/exe || echo x >> /dev/.boxrun/init');
    expect(code).not.toBe(0);
    // A script with the interpreter /proc/self/exe would run the OCI runtime if the box could reach it.
    await sh(shared, 'printf "#!/proc/self/exe\\n" > /root/trap; chmod +x /root/trap');
    const before = readFileSync('/usr/bin/crun').length;
    const { stderr, exit } = await shared.run(['/root/trap', '--version']);
    expect(exit).not.toEqual({ exitCode: 0 });
    expect(stderr).not.toContain('crun');
    expect((await shared.run(['true'])).exit).toEqual({ exitCode: 0 });
    expect(readFileSync('/usr/bin/crun').length).toBe(before);
    return err;
  });

  attack('plants links where the driver writes or reads', async () => {
    const marker = join(dir, 'host-file');
    writeFileSync(marker, 'host\n');
    const box = await boxes.started();
    await sh(
      box,
      `rm -rf /etc/passwd /etc/group; ln -s ${marker} /etc/passwd; ln -s / /tmp/host; ln -sfn ${dir} /root/link; rm -rf /home; ln -s ${dir} /home`,
    );
    expect((await sh(box, 'ls /tmp/host/etc; cat /root/link/host-file')).out).not.toContain('host-file');
    await expect(box.run(['id'], { user: 'host' })).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    await box.driver.stop(0);
    await box.start();
    expect((await sh(box, 'true')).code).toBe(0);
    expect(readFileSync(marker, 'utf8')).toBe('host\n');
    await boxes.dispose(box);
    return 'the links lead to places in the box, now and after the next start';
  });

  attack('plants links where the driver mounts at the next start', async () => {
    const box = await boxes.started({
      spec: { volumes: [{ host_path: dir, guest_path: '/data/inner', readonly: true }] },
    });
    const evil = join(dir, 'evil');
    mkdirSync(evil);
    await sh(box, `rm -rf /opt; ln -s ${evil} /opt`);
    await box.driver.stop(0);
    await box.start();
    expect((await sh(box, 'cat /data/inner/evil/x')).code).not.toBe(0);
    expect(execFileSync('ls', [evil], { encoding: 'utf8' })).toBe('');
    await boxes.dispose(box);
    return 'nothing appears on the host';
  });
});

describeOnHost('a greedy command', () => {
  attack('takes all memory', async () => {
    const box = await boxes.started({ spec: { memoryMb: 64 } });
    expect((await sh(box, 'tail /dev/zero')).code).toBe(137);
    expect((await sh(box, 'echo alive')).out).toBe('alive');
    expect((await sh(box, 'dd if=/dev/zero of=/dev/shm/x bs=1M count=100')).code).not.toBe(0);
    return 'the kernel kills the process (137), and the box lives on';
  });

  attack('takes all processes with a fork bomb', async () => {
    const box = await boxes.started({ spec: { memoryMb: 2048 } });
    const bomb = await box.exec(['sh', '-c', 'b() { b & b & wait; }; b']);
    bomb.stdout.resume();
    await once(bomb.stderr, 'data');
    bomb.stderr.resume();
    const counted = execFileSync(
      'find',
      ['/sys/fs/cgroup', '-path', `*/${box.boxId}/pids.current`, '-exec', 'cat', '{}', ';'],
      { encoding: 'utf8' },
    );
    expect(Number(counted)).toBeGreaterThan(limits.boxProcessesMax / 2);
    expect(Number(counted)).toBeLessThanOrEqual(limits.boxProcessesMax);
    await bomb.killTree();
    // The init of the box may still be reaping dead processes, so zombies do not count.
    expect((await sh(box, 'ps -o stat,args | grep -v "^Z" | grep -c "[b]() "')).out).toBe('0');
    return `it stops at ${counted.trim()} processes, and a cancel kills all of them`;
  });

  attack('takes all CPUs', async () => {
    const box = await boxes.started({ spec: { cpu: 1 } });
    const busy = await box.exec(['sh', '-c', 'for i in 1 2 3 4; do (while :; do :; done) & done; echo up; wait']);
    await once(busy.stdout, 'data');
    const before = (await box.driver.metrics()).cpuSeconds;
    const startedAt = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const used = ((await box.driver.metrics()).cpuSeconds - before) / ((performance.now() - startedAt) / 1000);
    expect(used).toBeLessThan(1.25);
    await busy.killTree();
    return `four busy loops in a box with one CPU use ${used.toFixed(2)} CPUs`;
  });

  attack('fills the disk, also through files that the driver mounts', async () => {
    const box = await boxes.started({ spec: { diskSizeGb: 1 } });
    const filled = await sh(box, 'dd if=/dev/zero of=/root/big bs=1M count=1200');
    expect(filled.err).toContain('No space left on device');
    expect((await sh(box, 'dd if=/dev/zero of=/etc/hosts bs=1M count=10')).err).toContain('No space left');
    expect((await sh(box, 'rm /root/big; echo ok > /root/small && cat /root/small')).out).toBe('ok');
    return 'No space left on device: the disk of the box has a fixed size';
  });
});
