// Compares commands that the agent starts with commands that the OCI runtime starts, in real boxes: results,
// privileges and limits are the same. Also tests what a hostile root in the box can do to the agent, and what happens
// when the agent is killed.
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { isUnified } from '../../src/worker/drivers/container/host/cgroups.ts';
import { createContainerDriver } from '../../src/worker/drivers/container/container-driver.ts';
import type { ExecRequest } from '../../src/worker/drivers/driver-contract.ts';
import { createContainer, createWithAgent, describeOnHost, useBoxes } from '../support/boxes/container-boxes.ts';
import { collect, type DriverHarness } from '../support/boxes/driver-harness.ts';
import { findLeaks } from '../support/host/leaks.ts';

const shared = useBoxes('file');
const boxes = useBoxes();

const isAgent = /^\s*(\d+) .*\/\.boxrun\/agent serve/m;

/** Returns the pid of the agent in the box, or null if it does not run. */
async function agentIn(box: DriverHarness): Promise<number | null> {
  const found = isAgent.exec((await box.run(['ps', '-o', 'pid,args'])).stdout);
  return found === null ? null : Number(found[1]);
}

/** The state of the agent's process, such as `S`, as the host sees it. The agent may not be able to say it. */
function agentStateOnHost(box: DriverHarness): string | undefined {
  const isAgentOfBox = (pid: string) =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('/dev/.boxrun/agent\0serve') &&
    readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(box.boxId);
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (isAgentOfBox(pid)) return /^State:\s+(\w)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    } catch {
      // The process has ended meanwhile.
    }
  }
  return undefined;
}

describeOnHost('a command started by the agent', () => {
  const sh = (script: string): readonly string[] => ['sh', '-c', script];
  const setUp = [
    'cp /bin/busybox /dev/shm/ls',
    'mkdir -p /dirs/ls "/a b"',
    'printf "#!/no/such\\n" > /bin/badint',
    'printf "#!/root\\n" > /bin/dirint',
    'printf "echo \\$0 \\$#: \\$@\\n" > /bin/plainscript',
    'printf "\\177ELFxxxx" > /bin/badelf',
    ': > /bin/empty',
    'ln -s /bin /link',
    'ln -s loop /loop',
    'printf "#!/bin/sh\\necho mine" > "/a b/ls"',
    'chmod +x /bin/* "/a b/ls"',
    'echo text > /bin/text',
    'chmod 700 /bin/empty',
    'mkfifo -m 666 /fifo',
  ].join('; ');
  const cases: ReadonlyArray<readonly [cmd: readonly string[], request?: Partial<ExecRequest>]> = [
    [sh('echo out; echo err >&2; exit 3')],
    [sh('kill -9 $$')],
    [sh('kill -TERM $$')],
    [sh('kill -SEGV $$; exit 0')],
    [['/bin/false']],
    [sh('cat; echo "ends at once"')],
    [sh('read line; echo $?')],
    [sh('printf "\\0\\377\\n\\r"')],
    [['nosuch', 'a']],
    [['/no/such']],
    [['']],
    [['/etc']],
    [['/bin/text']],
    [['text']],
    [['/loop']],
    [['/fifo']],
    [['/no\nsuch']],
    [['badint', 'x']],
    [['/bin/dirint']],
    [['plainscript', 'a', 'b c', '']],
    [['/bin/plainscript']],
    [['badelf']],
    [['empty']],
    [['/dev/shm/ls']],
    [['ls', '/a b'], { env: { PATH: '/dev/shm:/bin' } }],
    [['ls', '-d', '/a b'], { env: { PATH: '/dirs:/bin' } }],
    [['ls'], { env: { PATH: '/nowhere::/a b' } }],
    [['ls'], { env: { PATH: '' } }],
    [['busybox', 'echo', 'here'], { env: { PATH: ':' }, workdir: '/bin' }],
    [['busybox', 'true'], { env: { PATH: '/dirs:' }, workdir: '/bin' }],
    [sh('pwd; echo $PWD; env | sort'), { workdir: '/link/../usr//bin/.' }],
    [['env'], { workdir: '//usr' }],
    [['pwd'], { workdir: '/link' }],
    [['pwd'], { workdir: '/loop' }],
    [['pwd'], { workdir: '/no/where' }],
    [['pwd'], { workdir: '/bin/text' }],
    [['pwd'], { workdir: '/../..' }],
    [['env'], { env: { 'a.b': '1', '-x': '', IFS: ',', 'with space': 'ü', _: 'under' } }],
    [['env'], { env: { PWD: '/elsewhere', SHLVL: '7' } }],
    [['env'], { env: { Q: 'a\nb="c"' } }],
    [sh('id; pwd; env | sort'), { user: '1000:1000' }],
    [['pwd'], { user: '1000', workdir: '/root' }],
    [['pwd'], { user: '1000', workdir: '/tmp' }],
    [['empty'], { user: '1000:5', workdir: '/' }],
    [sh('id'), { user: '7:8' }],
    [sh('echo x > /root/x'), { user: '65534' }],
    [['id'], { user: '0:5' }],
    [sh('sleep 1000 >/dev/null 2>&1 & echo left behind')],
    [sh('umask; ulimit -a; cat /proc/self/oom_score_adj')],
    [sh('trap'), {}],
    [sh('setsid sh -c "echo in a session"; echo $?')],
    [['setsid', 'echo', 'no leader before']],
    [sh('kill -0 0 && echo own group')],
  ];

  test('has the same output and exit code as with the OCI runtime', async () => {
    const [ordinary, quick] = await Promise.all([
      shared.started({}, createContainer),
      shared.started({}, createWithAgent),
    ]);
    for (const box of [ordinary, quick]) await box.run(sh(setUp));
    expect(await agentIn(ordinary)).toBeNull();
    expect(await agentIn(quick)).not.toBeNull();
    for (const [cmd, request] of cases) {
      const [one, other] = [await ordinary.run(cmd, request), await quick.run(cmd, request)];
      // With the OCI runtime a shell starts the command, and its message of a failure also has a line number.
      const plain = { ...one, stderr: one.stderr.replace(/^sh: exec: line \d+: /, 'sh: '), stdout: sorted(one.stdout) };
      expect({ ...other, stdout: sorted(other.stdout) }, JSON.stringify([cmd, request])).toEqual(plain);
    }
  });

  /** The order of variables is not fixed. */
  const sorted = (text: string) => text.split('\n').sort().join('\n');

  const probe = `
    grep -vE "^(Pid|Tgid|PPid|NStgid|NSpid|NSpgid|NSsid|Vm|Rss|.*ctxt_switches|SigQ|Hugetlb)" /proc/self/status; cat /proc/self/limits /proc/self/oom_score_adj
    sed s/exec_.*/exec/ /proc/self/cgroup; umask; ls /proc/self/fd; cat /proc/self/timerslack_ns /proc/self/loginuid /proc/self/personality /proc/self/coredump_filter
    cat /proc/self/attr/current; for n in /proc/self/ns/*; do [ "$(readlink $n)" = "$(readlink /proc/$1/\${n#/proc/self/})" ] && echo same; done; stat -c %F%t%T /proc/self/fd/0
    for f in /proc/self/fd/*; do [ -p $f ] && echo pipe; [ -c $f ] && echo device; done; grep -c . /proc/self/mountinfo; pwd; echo $-; cut -d" " -f7-8,18-19,40-41 /proc/self/stat`;

  test.each([
    ['root', null],
    ['a user', '1000:1000'],
    ['a user with groups', '7:8'],
  ])('has the same privileges, limits, groups and descriptors as with the OCI runtime, as %s', async (_name, user) => {
    const [ordinary, quick] = await Promise.all([
      shared.started({}, createContainer),
      shared.started({}, createWithAgent),
    ]);
    const ask = async (box: DriverHarness) =>
      (await box.run(['sh', '-c', probe, 'sh', '1'], { user, workdir: '/' })).stdout.split('\n');
    const [one, other] = [await ask(ordinary), await ask(quick)];
    expect(one.join()).toContain('CapBnd');
    expect(one).toContain('NoNewPrivs:\t1');
    expect(one).toContain('Seccomp:\t2');
    expect(other).toEqual(one);
  });

  test('reads an input that the client closes at once, and one that stays open while it runs', async () => {
    const quick = await shared.started({}, createWithAgent);
    const closed = await quick.exec(['sh', '-c', 'cat; echo end'], { stdin: true });
    closed.stdin?.end();
    expect((await collect(closed)).stdout).toBe('end\n');
    const open = await quick.exec(['sh', '-c', 'read line; echo "got $line"'], { stdin: true });
    open.stdin?.write('one\n');
    expect((await collect(open)).stdout).toBe('got one\n');
    open.stdin?.destroy();
  });

  test('has only its own output when 60 commands run at once', async () => {
    const quick = await shared.started({}, createWithAgent);
    const all = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        quick.run(['sh', '-c', `echo out ${index}; echo err ${index} >&2; exit ${index}`]),
      ),
    );
    expect(all).toEqual(
      all.map((_, index) => ({ exit: { exitCode: index }, stdout: `out ${index}\n`, stderr: `err ${index}\n` })),
    );
  });

  test('fails with the same message as with the OCI runtime when an argument is too long', async () => {
    const both = await Promise.all([shared.started({}, createContainer), shared.started({}, createWithAgent)]);
    const long = `: ${'x'.repeat(140_000)}`;
    const tooLong = { stdout: '', stderr: 'sh: sh: Argument list too long\n', exit: { exitCode: 126 } };
    for (const box of both) expect(await box.run(['sh', '-c', long])).toEqual(tooLong);
    for (const box of both)
      expect(
        (await box.run(['sh', '-c', 'echo "$#"', 'sh', ...Array.from({ length: 5_000 }, () => 'y'.repeat(100))]))
          .stdout,
      ).toBe('5000\n');
  });
});

describeOnHost('a hostile root in a box', () => {
  test('cannot read or change the agent, or reach the host through its descriptors', async () => {
    const box = await boxes.started({}, createWithAgent);
    const agent = await agentIn(box);
    const attempts = [
      `ls /proc/${agent}/fd`,
      `ls /proc/${agent}/fd/`,
      `cat /proc/${agent}/environ`,
      `cat /proc/${agent}/maps`,
      `head -c1 /proc/${agent}/mem`,
      `cat /proc/${agent}/fd/4`,
      `ls /proc/${agent}/fd/5/..`,
      `ls /proc/${agent}/fd/6/..`,
      `ls /proc/${agent}/root/`,
      `ls /proc/${agent}/cwd/`,
      `cat /proc/${agent}/exe`,
      `cat /proc/${agent}/stack`,
      'cat /dev/.boxrun/agent',
      'cp /dev/.boxrun/agent /tmp/x',
      'chmod 755 /dev/.boxrun/agent',
      'mv /dev/.boxrun/agent /dev/.boxrun/r',
    ];
    for (const attempt of attempts) {
      const { exit, stdout } = await box.run(['sh', '-c', attempt]);
      expect([attempt, stdout]).toEqual([attempt, '']);
      expect(exit, attempt).not.toEqual({ exitCode: 0 });
    }
  });

  test('never finds a descriptor of the agent in a command that starts', async () => {
    const box = await boxes.started({}, createWithAgent);
    const spy =
      'for i in $(seq 3000); do for p in /proc/[0-9]*; do case "$(readlink $p/exe 2>/dev/null)" in *agent*) echo "$p"; ls -l $p/fd;; esac; done; done 2>/dev/null';
    const watching = await box.exec(['sh', '-c', spy]);
    watching.stderr.resume();
    const seen = collect(watching);
    for (let round = 0; round < 40; round += 1)
      await box.run(['true'], { user: round % 2 === 0 ? null : '1000', workdir: '/' });
    await watching.killTree();
    expect((await seen).stdout).toBe('');
  });

  test('cannot write to the control groups that it sees', async () => {
    const box = await boxes.started({}, createWithAgent);
    const script =
      'for f in $(find /sys/fs/cgroup -name cgroup.procs); do (echo $$ > $f) 2>/dev/null && echo "$f"; chmod 666 $f 2>/dev/null && echo "$f"; done; mkdir /sys/fs/cgroup/freezer/x 2>&1 | head -1 >&2';
    expect((await box.run(['sh', '-c', script])).stdout).toBe('');
  });

  test('loses its running commands, with a reason, when it kills the agent, and the next command works', async () => {
    const box = await boxes.started({}, createWithAgent);
    await box.run(['true']);
    const victim = await box.exec(['sh', '-c', 'echo up; setsid sleep 1000 & sleep 1001']);
    await once(victim.stdout, 'data');
    victim.stdout.resume();
    const first = await agentIn(box);
    const killer = await box.exec(['sh', '-c', `read line; kill -9 ${first}; sleep 1002`], { stdin: true });
    killer.stdin?.on('error', () => undefined);
    killer.stdin?.write('now\n');
    expect(await victim.exit).toEqual({ lost: 'the agent in the box ended' });
    expect(await killer.exit).toEqual({ lost: 'the agent in the box ended' });
    const { stdout } = await box.run(['ps', '-o', 'pid,args']);
    expect(stdout).not.toContain('sleep');
    const second = await agentIn(box);
    expect(second).not.toBeNull();
    expect(second).not.toBe(first);
    await box.driver.stop(0);
    expect(findLeaks({ boxId: box.boxId }).filter((line) => !line.startsWith('directory'))).toEqual([]);
  });

  test('gets commands started by the OCI runtime after it has killed the agent several times', async () => {
    const box = await boxes.started({}, createWithAgent);
    for (let round = 0; round < 5; round += 1)
      await box.run(['sh', '-c', 'kill -9 $(pidof agent) 2>/dev/null; sleep 0.01; exit 0']);
    expect((await box.run(['echo', 'still'])).stdout).toBe('still\n');
    expect(await agentIn(box)).toBeNull();
    expect(box.driver.agentUse).toEqual({ way: 'none', reason: 'not_started' });
  });

  test('cannot prevent the kill of a command by stopping the agent', async () => {
    const box = await boxes.started({}, createWithAgent);
    const victim = await box.exec(['sh', '-c', 'kill -STOP $(pidof agent); sleep 1000']);
    await expect.poll(() => agentStateOnHost(box)).toBe('T');
    await victim.killTree();
    expect(await victim.exit).toEqual({ exitCode: 137 });
  });

  test('cannot escape the kill of a command with a fork bomb, and the box works afterwards', async () => {
    const box = await boxes.started({}, createWithAgent);
    const bomb = await box.exec(['sh', '-c', 'f() { f | f & }; echo up; f; sleep 1000']);
    await once(bomb.stdout, 'data');
    bomb.stdout.resume();
    bomb.stderr.resume();
    await bomb.killTree();
    expect(await bomb.exit).toEqual({ exitCode: 137 });
    expect((await box.run(['echo', 'on'])).stdout).toBe('on\n');
  });
});

describeOnHost('the agent', () => {
  test('starts with the first command of a box, if the host has control groups of version 1', async () => {
    const box = await boxes.started({}, (context) =>
      createContainerDriver(context, { insecureRegistries: [], agent: 'auto' }),
    );
    expect(agentStateOnHost(box)).toBeUndefined();
    const { stdout } = await box.run(['ps', '-o', 'pid,args']);
    expect(isAgent.test(stdout)).toBe(!isUnified());
  });

  test('ends after its last command when the driver that started it is closed', async () => {
    const box = await boxes.started({}, createWithAgent);
    const last = await box.exec(['sh', '-c', 'read line; exit 6'], { stdin: true });
    await box.driver.close();
    const next = box.successor(createContainer);
    expect(await next.driver.reattach()).toBe('running');
    expect(await agentIn(next)).not.toBeNull();
    last.stdin?.end('\n');
    expect(await last.exit).toEqual({ exitCode: 6 });
    await expect.poll(() => agentIn(next)).toBeNull();
  });

  test('delays neither a stop nor a removal of the box, idle or busy', async () => {
    const box = await boxes.started({}, createWithAgent);
    await box.run(['true']);
    await box.driver.stop(0);
    await box.start();
    const sleeper = await box.exec(['sleep', '1000']);
    await boxes.dispose(box);
    expect(await sleeper.exit).toEqual({ exitCode: 137 });
  });

  test('uses less than 1,000 kB of the memory of the box', async () => {
    const box = await boxes.started({}, createWithAgent);
    const status = (await box.run(['cat', `/proc/${await agentIn(box)}/status`])).stdout;
    expect(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1])).toBeLessThan(1_000);
  });
});
