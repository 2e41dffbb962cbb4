// Tests the container driver on a real OCI runtime: the life of a box, commands, their streams and exit codes, and the
// kill of all processes of a command.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { importImage } from '../../src/shared/images/import.ts';
import { newId } from '../../src/shared/ids.ts';
import { createBoxCgroups } from '../../src/worker/drivers/container/host/cgroups.ts';
import { cgroupOf } from '../../src/worker/drivers/container/paths.ts';
import { createContainer, describeOnHost, execPaths, useBoxes } from '../support/boxes/container-boxes.ts';
import { collect, readAll, type DriverHarness } from '../support/boxes/driver-harness.ts';
import { findLeaks } from '../support/host/leaks.ts';
import { makeSampleTars } from '../support/boxes/image-files.ts';

const allBoxes = useBoxes();
const onBothPaths = describeOnHost.each(execPaths);

/**
 * Lists the processes in a box, except its init, the agent, zombies (in brackets) and the `ps` of this function.
 */
async function commandsIn(box: DriverHarness): Promise<string[]> {
  const { stdout } = await box.run(['ps', '-o', 'args']);
  return stdout
    .trim()
    .split('\n')
    .slice(1)
    .filter((line) => !line.startsWith('ps ') && !/\/\.boxrun\/(init|agent)|^\[/.test(line));
}

/** Finds everything that is left of a stopped box, except its files. */
function leftRunning(box: DriverHarness): string[] {
  return findLeaks({ boxId: box.boxId }).filter((line) => !line.startsWith('directory'));
}

onBothPaths('a box with commands started by %s', (_path, create) => {
  const boxes = allBoxes.by(create);
  test('keeps its disk over stop and start, and leaves nothing after its removal', async () => {
    const box = await boxes.started();
    await box.run(['sh', '-c', 'echo kept > /root/file; mkdir /opt; rm /etc/profile']);
    await box.driver.stop(1000);
    expect(leftRunning(box)).toEqual([]);
    await box.start();
    expect((await box.run(['cat', '/root/file'])).stdout).toBe('kept\n');
    expect((await box.run(['ls', '/etc/profile'])).exit).toEqual({ exitCode: 1 });
    expect((await box.run(['ls', '-d', '/opt'])).exit).toEqual({ exitCode: 0 });
    await boxes.dispose(box);
    expect(box.engineExits).toEqual([]);
  });

  test('refuses commands while it is stopped', async () => {
    const box = await boxes.created();
    await expect(box.run(['true'])).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    await expect(box.driver.metrics()).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
  });

  test('reports its memory and CPU time', async () => {
    const box = await boxes.started();
    await box.run(['sh', '-c', 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done']);
    const { cpuSeconds, memoryBytes } = await box.driver.metrics();
    expect(cpuSeconds).toBeGreaterThan(0.02);
    expect(memoryBytes).toBeGreaterThan(50_000);
  });

  test('lets processes end in order at a stop, and kills the others after the grace', async () => {
    const box = await boxes.started();
    const polite = await box.exec([
      'sh',
      '-c',
      'trap "echo bye > /root/bye; exit 5" TERM; echo up; while :; do sleep 0.05; done',
    ]);
    const stubborn = await box.exec(['sh', '-c', 'trap "" TERM; echo up; while :; do sleep 1; done']);
    await Promise.all([once(polite.stdout, 'data'), once(stubborn.stdout, 'data')]);
    const stopped = box.driver.stop(1500);
    expect(await polite.exit).toEqual({ exitCode: 5 });
    expect(await stubborn.exit).toEqual({ exitCode: 137 });
    await stopped;
    await box.start();
    expect((await box.run(['cat', '/root/bye'])).stdout).toBe('bye\n');
  });

  test('can be removed while it runs, and removed again', async () => {
    const box = await boxes.started();
    const sleeper = await box.exec(['sleep', '1000']);
    await box.driver.remove();
    expect(await sleeper.exit).toEqual({ exitCode: 137 });
    expect(existsSync(box.context.homeDir)).toBe(false);
    await box.driver.remove();
  });

  test('mounts a volume read-only or writable', async () => {
    const box = await boxes.started({
      spec: { volumes: [{ host_path: boxes.imagesDir(), guest_path: '/images', readonly: true }] },
    });
    expect((await box.run(['ls', '/images'])).stdout).toContain('rootfs');
    const refused = await box.run(['sh', '-c', 'echo x > /images/new']);
    expect(refused.stderr).toContain('Read-only file system');
    const writable = await boxes.started({
      spec: { volumes: [{ host_path: box.dir, guest_path: '/data/deep', readonly: false }] },
    });
    expect(await writable.run(['sh', '-c', 'echo from-box > /data/deep/new'])).toMatchObject({ exit: { exitCode: 0 } });
    expect(readFileSync(join(box.dir, 'new'), 'utf8')).toBe('from-box\n');
  });

  test('mounts a single file, and shows files of a file system without id mapping as those of nobody', async () => {
    const box = await boxes.started({
      spec: {
        volumes: [
          { host_path: '/etc/hostname', guest_path: '/root/file', readonly: true },
          { host_path: '/proc/sys/kernel', guest_path: '/kernel', readonly: true },
        ],
      },
    });
    expect((await box.run(['cat', '/root/file'])).stdout).toBe(readFileSync('/etc/hostname', 'utf8'));
    expect((await box.run(['ls', '-l', '/kernel/ostype'])).stdout).toContain('nobody');
    expect((await box.run(['sh', '-c', 'echo x > /root/file || echo 1 > /kernel/panic'])).exit).toEqual({
      exitCode: 1,
    });
  });

  test('does not start when the host path of a volume is missing, and the error names the path', async () => {
    const box = await boxes.created({
      spec: { volumes: [{ host_path: '/nowhere/at/all', guest_path: '/v', readonly: true }] },
    });
    await expect(box.start()).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      message: expect.stringContaining('/nowhere/at/all') as unknown,
    });
    expect(leftRunning(box)).toEqual([]);
  });

  test('leaves nothing running when its start is canceled, and the next start works', async () => {
    const box = await boxes.created();
    for (const waitFor of [0, 1, 2]) {
      const controller = new AbortController();
      const start = box.driver.start(() => {
        // The first report comes before anything is started. The cancel comes then, or a few milliseconds later.
        if (waitFor === 0) controller.abort();
        else
          setTimeout(() => {
            controller.abort();
          }, waitFor * 15);
      }, controller.signal);
      await expect(start).rejects.toMatchObject({ code: 'CANCELED' });
      expect(leftRunning(box)).toEqual([]);
    }
    await box.start();
    expect((await box.run(['echo', 'up'])).stdout).toBe('up\n');
  });
});

onBothPaths('a command started by %s', (_path, create) => {
  const boxes = allBoxes.by(create);
  test('keeps stdout and stderr apart, and every byte unchanged', async () => {
    const box = await boxes.started();
    const script =
      'dd if=/dev/urandom of=/tmp/r bs=64k count=800 2>/dev/null; sha256sum /tmp/r | cut -c1-64 >&2; cat /tmp/r';
    const handle = await box.exec(['sh', '-c', script]);
    const [stdout, stderr, exit] = await Promise.all([readAll(handle.stdout), readAll(handle.stderr), handle.exit]);
    expect(exit).toEqual({ exitCode: 0 });
    expect(stdout.length).toBe(800 * 65_536);
    expect(createHash('sha256').update(stdout).digest('hex')).toBe(stderr.toString().trim());
  });

  test('waits while its output is not read, and loses nothing', async () => {
    const box = await boxes.started();
    const handle = await box.exec([
      'sh',
      '-c',
      'i=0; while [ $i -lt 200000 ]; do echo line $i; i=$((i+1)); done; echo done > /root/done',
    ]);
    let ended = false;
    void handle.exit.then(() => {
      ended = true;
    });
    // Another command starts and ends in the meantime. This one still waits: the pipe holds only 64 KiB.
    expect((await box.run(['ls', '/root/done'])).exit).toEqual({ exitCode: 1 });
    expect(ended).toBe(false);
    const { stdout, exit } = await collect(handle);
    expect(exit).toEqual({ exitCode: 0 });
    expect(stdout.trimEnd().split('\n')).toHaveLength(200_000);
    expect(stdout.endsWith('line 199999\n')).toBe(true);
  });

  test('gets its complete input, and the end of it', async () => {
    const box = await boxes.started();
    const handle = await box.exec(['sh', '-c', 'cat /dev/stdin | sha256sum | cut -c1-64'], { stdin: true });
    const content = Buffer.alloc(5_000_000, 'abc\0\n');
    handle.stdin?.end(content);
    expect((await collect(handle)).stdout.trim()).toBe(createHash('sha256').update(content).digest('hex'));
  });

  test('can open /dev/stdout and /dev/stderr', async () => {
    const box = await boxes.started();
    const { stdout, stderr } = await box.run(['sh', '-c', 'echo out > /dev/stdout; echo err > /dev/stderr'], {
      user: '1000:1000',
      workdir: '/',
    });
    expect([stdout, stderr]).toEqual(['out\n', 'err\n']);
  });

  test('ends with its own exit code, or with 128 plus the number of the signal', async () => {
    const box = await boxes.started();
    const code = async (script: string) => (await box.run(['sh', '-c', script])).exit;
    expect(await code('exit 0')).toEqual({ exitCode: 0 });
    expect(await code('exit 1')).toEqual({ exitCode: 1 });
    expect(await code('exit 255')).toEqual({ exitCode: 255 });
    expect(await code('kill -KILL $$')).toEqual({ exitCode: 137 });
    expect(await code('kill -TERM $$')).toEqual({ exitCode: 143 });
  });

  test('ends with 127 if it does not exist and 126 if it cannot be executed, with a message', async () => {
    const box = await boxes.started();
    expect(await box.run(['nosuch', 'x'])).toEqual({
      exit: { exitCode: 127 },
      stdout: '',
      stderr: 'sh: nosuch: not found\n',
    });
    expect(await box.run(['/no/such'])).toMatchObject({ exit: { exitCode: 127 }, stderr: 'sh: /no/such: not found\n' });
    expect(await box.run(['/etc/passwd'])).toMatchObject({
      exit: { exitCode: 126 },
      stderr: 'sh: /etc/passwd: Permission denied\n',
    });
    expect(await box.run(['/etc'])).toMatchObject({ exit: { exitCode: 126 } });
    expect(await box.run([''])).toMatchObject({ exit: { exitCode: 127 } });
  });

  test('fails with 1 and a message when its working directory is missing or is not a directory', async () => {
    const box = await boxes.started();
    expect(await box.run(['true'], { workdir: '/no/where' })).toEqual({
      exit: { exitCode: 1 },
      stdout: '',
      stderr: "sh: cd: can't cd to /no/where: No such file or directory\n",
    });
    expect((await box.run(['true'], { workdir: '/etc/passwd' })).stderr).toContain('Not a directory');
    expect((await box.run(['pwd'], { workdir: '/usr/bin' })).stdout).toBe('/usr/bin\n');
    expect((await box.run(['pwd'])).stdout).toBe('/root\n');
  });

  test('is searched in its own PATH, never in that of the driver', async () => {
    const box = await boxes.started();
    await box.run([
      'sh',
      '-c',
      'mkdir -p "/opt/a b"; printf "#!/bin/sh\\necho mine \\"\\$@\\"\\n" > "/opt/a b/ls"; chmod +x "/opt/a b/ls"',
    ]);
    expect((await box.run(['ls', '*'], { env: { PATH: '/nowhere:/opt/a b:/bin' } })).stdout).toBe('mine *\n');
    expect((await box.run(['ls'], { env: { PATH: '/nowhere' } })).exit).toEqual({ exitCode: 127 });
  });

  test('gets exactly the environment of image, box and request, with any names and values', async () => {
    const box = await boxes.started({ spec: { env: { BOTH: 'box', BOX: '1' } } });
    const plain = (await box.run(['env'], { env: { BOTH: 'request', Q: `a'b"c$d\`e\\f` } })).stdout
      .trim()
      .split('\n')
      .sort();
    expect(plain).toEqual([
      'BOTH=request',
      'BOX=1',
      'HOME=/root',
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'PWD=/root',
      `Q=a'b"c$d\`e\\f`,
    ]);
    const odd = { 'a.b': '1 2', '-x': 'y', IFS: ',', SHLVL: '9', PS1: '>', PWD: '/x', 'with space': '' };
    const { stdout } = await box.run(['env', '-u', 'nothing'], { env: odd });
    for (const [name, value] of Object.entries(odd)) expect(stdout.split('\n')).toContain(`${name}=${value}`);
    expect((await box.run(['sh', '-c', 'echo "$#:$1:$2:$3"', 'sh', '', 'a b', '*'], { env: odd })).stdout).toBe(
      '3::a b:*\n',
    );
  });

  test('runs as the requested user, given by number or name, with the groups of that user', async () => {
    const tars = await makeSampleTars(boxes.imagesDir(), 'users');
    await importImage(boxes.imagesDir(), 'users', tars.rootfsTar);
    const box = await boxes.started({ image: 'users' });
    const id = async (user: string) => (await box.run(['id'], { user })).stdout.trim();
    expect(await id('user')).toBe('uid=1000(user) gid=1001(user) groups=1001(user),1234(extra)');
    expect(await id('1000')).toContain('gid=1001');
    expect(await id('7:8')).toBe('uid=7 gid=8 groups=8');
    expect((await box.run(['sh', '-c', 'echo $HOME'], { user: 'user' })).stdout).toBe('/home/user\n');
    await expect(box.run(['id'], { user: 'nobody-knows' })).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
  });

  test('gets a signal alone, without its children', async () => {
    const box = await boxes.started();
    const handle = await box.exec([
      'sh',
      '-c',
      'trap "exit 9" USR1; sleep 1000 & echo up; while :; do sleep 0.02; done',
    ]);
    await once(handle.stdout, 'data');
    handle.stdout.resume();
    await handle.signal(10);
    expect(await handle.exit).toEqual({ exitCode: 9 });
    expect(await commandsIn(box)).toContain('sleep 1000');
    await handle.killTree();
    expect(await commandsIn(box)).not.toContain('sleep 1000');
  });
});

onBothPaths('the kill of a command started by %s', (_path, create) => {
  const boxes = allBoxes.by(create);
  const trees: Readonly<Record<string, string>> = {
    'children in the background': 'sleep 1000 & sleep 1001 & echo up; wait',
    'new sessions': 'setsid sleep 1000 & setsid sh -c "sleep 1001; :" & echo up; wait',
    'double forks': '(setsid sh -c "sleep 1000 & sleep 1001 &" &) ; echo up; sleep 1002',
    'a tree that keeps forking': 'f() { (sleep 0.01; f) & f2=$!; echo up; wait $f2; }; f',
  };

  test.each(Object.entries(trees))('ends %s', async (_name, script) => {
    const box = await boxes.started();
    const other = await box.exec(['sleep', '777']);
    const handle = await box.exec(['sh', '-c', script]);
    await once(handle.stdout, 'data');
    handle.stdout.resume();
    await handle.killTree();
    expect(await handle.exit).toEqual({ exitCode: 137 });
    expect(await commandsIn(box)).toEqual(['sleep 777']);
    await handle.killTree();
    await other.killTree();
  });

  test('works in an image without a shell, and so do other commands', async () => {
    const tars = await makeSampleTars(boxes.imagesDir());
    await importImage(boxes.imagesDir(), 'scratch', tars.scratchTar);
    const box = await boxes.started({ image: 'scratch', spec: { workdir: '/' } });
    expect((await box.run(['/busybox', 'echo', 'hello'])).stdout).toBe('hello\n');
    expect((await box.run(['busybox'])).exit).toEqual({ exitCode: 127 });
    expect((await box.run(['sh', '-c', 'true'])).stderr).toBe('sh: sh: not found\n');
    const handle = await box.exec([
      '/busybox',
      'sh',
      '-c',
      '/busybox setsid /busybox sleep 1000 & echo up; /busybox sleep 1001',
    ]);
    await once(handle.stdout, 'data');
    await handle.killTree();
    expect(await handle.exit).toEqual({ exitCode: 137 });
    expect((await box.run(['/busybox', 'ps', '-o', 'args'])).stdout).not.toContain('sleep');
  });

  test('prevents a command that has not begun', async () => {
    const box = await boxes.started();
    const cgroups = createBoxCgroups(cgroupOf(box.context.instanceId, box.boxId));
    await box.run(['true']); // Makes sure that the agent is there, so that the next command does not wait for it.
    let neverBegan = 0;
    for (let round = 0; round < 10; round += 1) {
      const execId = newId('exec');
      const starting = box.exec(['sh', '-c', `echo ran > /root/ran-${round}; sleep 1000`], { execId });
      const outcome = starting.then(
        (handle) => handle.exit,
        (error: unknown) => error,
      );
      // The control group exists as soon as the runtime is started. The command joins it some milliseconds later.
      await new Promise((resolve) => setImmediate(resolve));
      expect(cgroups.execIds()).toContain(execId);
      await cgroups.killExec(execId, 5000);
      const how = await outcome;
      // The start may have been faster than the kill. Then the command has begun and is killed.
      if (how instanceof Error) neverBegan += 1;
      if (how instanceof Error) expect(how).toMatchObject({ code: 'RUNTIME_ERROR' });
      else expect(how).toEqual({ exitCode: 137 });
      const ran = (await box.run(['ls', '/root'])).stdout;
      if (how instanceof Error) expect(ran).not.toContain(`ran-${round}\n`);
    }
    // The OCI runtime takes much longer to start a command than the kill takes.
    if (create === createContainer) expect(neverBegan).toBeGreaterThan(0);
    expect(await commandsIn(box)).toEqual([]);
  });

  test('does not happen when the command ends by itself: its children live until the box stops', async () => {
    const box = await boxes.started();
    const { exit } = await box.run(['sh', '-c', 'sleep 1000 >/dev/null 2>&1 & exit 3']);
    expect(exit).toEqual({ exitCode: 3 });
    expect((await box.run(['ps', '-o', 'args'])).stdout).toContain('sleep 1000');
    await box.driver.stop(0);
    expect(leftRunning(box)).toEqual([]);
  });
});
