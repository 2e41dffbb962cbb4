// The BoxLite driver on real micro-VMs. One box has an image with a shell; another has an image with only a busybox
// in another directory (/tool/busybox). A boot takes seconds, so several tests use the same box, in order.
import { execFileSync, fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ImageSource } from '../../src/shared/images/source.ts';
import { serveRegistry } from '../vm/support/registry.ts';
import {
  createAndStart,
  finish,
  makeBox,
  makeImage,
  request,
  run,
  stateDir,
  type TestBox,
} from '../vm/support/boxlite-box.ts';

const dir = stateDir();
let image: ImageSource;
let bare: ImageSource;

beforeAll(async () => {
  mkdirSync(join(dir, 'images'), { recursive: true });
  image = await makeImage(dir, 'shell');
  bare = await makeImage(dir, 'bare');
});

afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

/** Returns the processes of the VM with this home. Zombies do not count. */
function vmProcesses(home: string): string[] {
  const list = execFileSync('ps', ['-eo', 'pid,stat,args', '-ww'], { encoding: 'utf8', maxBuffer: 2 ** 24 });
  return list
    .split('\n')
    .filter((line) => line.includes(`${home}/boxes/`) && /bwrap|boxlite-shim/.test(line) && !/^\s*\d+\s+Z/.test(line));
}

function shimPid(home: string): number {
  const line = vmProcesses(home).find((each) => /^\s*\d+\s+\S+\s+\S*boxlite-shim/.test(each));
  return Number(line?.trim().split(/\s+/)[0]);
}

function socketLinks(): string[] {
  const links = `/tmp/bl-${process.getuid?.() ?? 0}`;
  return existsSync(links) ? readdirSync(links) : [];
}

async function timed<T>(what: string, work: Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await work;
  console.log(`${what}: ${Math.round(performance.now() - startedAt)} ms`);
  return result;
}

/** Returns how many processes `sleep <seconds>` live in the box. */
async function sleepers(box: TestBox, seconds: number, ps: readonly string[] = ['ps']): Promise<number> {
  const { stdout } = await run(box, [...ps, '-o', 'args']);
  return stdout.split('\n').filter((line) => line.endsWith(`sleep ${seconds}`)).length;
}

/** Expects that the box has a network, and that it can reach no service of the host. */
async function expectNoWayToHost(box: TestBox): Promise<void> {
  let reached = 0;
  const service = createServer((socket) => {
    reached += 1;
    socket.destroy();
  });
  service.listen(0, '0.0.0.0');
  await once(service, 'listening');
  const { port } = service.address() as AddressInfo;
  const own = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter((each) => each.family === 'IPv4');
  const addresses = ['192.168.127.254', '192.168.127.1', '127.0.0.1', ...own.map((each) => each.address)];
  for (const address of new Set(addresses)) {
    const ended = await run(box, ['sh', '-c', `/bin/busybox nc -w 2 ${address} ${port} </dev/null`]);
    expect(ended.exit, address).toEqual({ exitCode: 1 });
  }
  expect(reached).toBe(0);
  service.close();
  expect((await run(box, ['sh', '-c', '/bin/busybox nc -w 2 192.168.127.1 53 </dev/null'])).exit).toEqual({
    exitCode: 0,
  });
}

describe('a box', () => {
  let box: TestBox;

  beforeAll(async () => {
    box = makeBox(dir, 'box_aaaaaaaaaaaa', image, { env: { GREETING: 'hello', BOXLITE_EXECUTOR: 'guest' } });
    await timed('first start', createAndStart(box));
  });

  afterAll(async () => {
    await box.driver.remove();
  });

  it('returns stdout and stderr of a command separately', async () => {
    const ended = await timed('first exec', run(box, ['sh', '-c', 'echo out; echo err >&2; exit 7']));
    expect(ended).toEqual({ exit: { exitCode: 7 }, stdout: 'out\n', stderr: 'err\n' });
    for (let i = 0; i < 4; i += 1) await timed('true', run(box, ['true']));
  });

  it('gives the command its exact arguments and environment', async () => {
    const odd = { 'odd.name': 'a b', IFS: 'x', PLAIN: '$HOME "quoted" \'too\'\nline', BOXRUN_SECRET: 'no', SHLVL: '9' };
    const { stdout } = await run(box, ['env'], { env: odd });
    const lines = stdout.split('\n');
    for (const line of [
      'odd.name=a b',
      'IFS=x',
      'PLAIN=$HOME "quoted" \'too\'',
      'line',
      'GREETING=hello',
      'FROM_IMAGE=yes',
      'SHLVL=9',
    ]) {
      expect(lines).toContain(line);
    }
    expect(stdout).not.toMatch(/BOXRUN_|BOXLITE_|OLDPWD|^PWD/m);
    const plain = await run(box, ['env']);
    expect(plain.stdout).not.toMatch(/SHLVL|PWD|BOXLITE_|BOXRUN_/);
    const args = await run(box, [
      'sh',
      '-c',
      'for a in "$0" "$@"; do echo "[$a]"; done',
      '-n',
      '',
      '*',
      "it's",
      '$(id)',
      'a\nb',
    ]);
    expect(args.stdout).toBe("[-n]\n[]\n[*]\n[it's]\n[$(id)]\n[a\nb]\n");
  });

  it('exits with 127, 126 and 128+n like a shell', async () => {
    const missing = await run(box, ['no-such-command']);
    expect(missing).toMatchObject({ exit: { exitCode: 127 }, stderr: 'sh: no-such-command: not found\n' });
    expect((await run(box, ['/no/such/file'])).exit).toEqual({ exitCode: 127 });
    // busybox has tar as an applet, but the box has no such command.
    expect((await run(box, ['tar', '--help'])).exit).toEqual({ exitCode: 127 });
    expect(await run(box, ['/etc/passwd'])).toMatchObject({
      exit: { exitCode: 126 },
      stderr: 'sh: /etc/passwd: Permission denied\n',
    });
    expect((await run(box, ['/etc'])).exit).toEqual({ exitCode: 126 });
    for (const signal of [1, 9, 15])
      expect((await run(box, ['sh', '-c', `kill -${signal} $$`])).exit).toEqual({ exitCode: 128 + signal });
  });

  it('fails a command whose working directory is missing', async () => {
    const ended = await run(box, ['true'], { workdir: "/no such 'dir" });
    expect(ended).toEqual({
      exit: { exitCode: 1 },
      stdout: '',
      stderr: "sh: cd: can't cd to /no such 'dir: No such file or directory\n",
    });
    expect((await run(box, ['sh', '-c', 'pwd'], { workdir: '/tmp' })).stdout).toBe('/tmp\n');
  });

  it('sets the size of a terminal, and passes input until its end', async () => {
    const tty = { cols: 101, rows: 37, term: 'xterm-256color' };
    const terminal = await run(box, ['sh', '-c', 'stty size; echo $TERM; echo err >&2'], { tty });
    expect(terminal.stdout.replaceAll('\r', '')).toBe('37 101\nxterm-256color\nerr\n');
    const handle = await box.driver.exec(request(['cat'], { stdin: true }));
    handle.stdin?.write('some ');
    handle.stdin?.end('input');
    expect(await finish(handle)).toMatchObject({ exit: { exitCode: 0 }, stdout: 'some input' });
    expect((await run(box, ['cat'])).stdout).toBe('');
  });

  it('runs a command as another user', async () => {
    const ended = await run(box, ['id', '-u'], { user: 'user', workdir: '/tmp' });
    expect(ended).toMatchObject({ exit: { exitCode: 0 }, stdout: '1000\n' });
  });

  it('does not end when a command runs df, which kills the VM if the system call filter of the engine is on', async () => {
    const ended = await run(box, ['df']);
    expect(ended.exit).toEqual({ exitCode: 0 });
    expect(box.exits).toEqual([]);
  });

  it.each([
    ['in the background', 'sleep 1111 & sleep 1111'],
    ['in a new session', 'setsid sleep 1111 & sleep 1111'],
    ['from a double fork, without environment', '(setsid env -i sleep 1111 &) ; sleep 1111'],
    [
      'that fork again and again',
      'f() { sleep 1111 & f; }; for i in 1 2 3 4 5 6 7 8 9; do sleep 1111 & done; while :; do (setsid sleep 1111 &); usleep 20000; done',
    ],
  ])('kills a whole tree with children %s', async (_name, script) => {
    const handle = await box.driver.exec(request(['sh', '-c', script]));
    while ((await sleepers(box, 1111)) < 2) await delay(50);
    await timed('kill', handle.killTree());
    expect(await handle.exit).toEqual({ exitCode: 137 });
    expect(await sleepers(box, 1111)).toBe(0);
  });

  it('kills a command right after its start', async () => {
    const handles = await Promise.all([1, 2, 3].map(() => box.driver.exec(request(['sh', '-c', 'sleep 1112']))));
    await Promise.all(handles.map((handle) => handle.killTree()));
    for (const handle of handles) expect(await handle.exit).toEqual({ exitCode: 137 });
    expect(await sleepers(box, 1112)).toBe(0);
  });

  it('ends a command with its leader, even if a child holds its output', async () => {
    const handle = await box.driver.exec(request(['sh', '-c', 'sleep 1113 & echo done']));
    expect(await handle.exit).toEqual({ exitCode: 0 });
    expect(await sleepers(box, 1113)).toBe(1);
    handle.stdout.destroy();
    handle.stderr.destroy();
  });

  it('keeps the disk over stop and start, and ends commands with TERM first', async () => {
    const handle = await box.driver.exec(
      request(['sh', '-c', 'trap "echo bye >/root/bye; sync; exit 3" TERM; while :; do usleep 20000; done']),
    );
    await delay(500);
    await timed('stop', box.driver.stop(5_000));
    expect(vmProcesses(box.homeDir)).toEqual([]);
    expect(await handle.exit).toMatchObject({ exitCode: 3 });
    await expect(box.driver.exec(request(['true']))).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    await timed(
      'start again',
      box.driver.start(() => undefined, new AbortController().signal),
    );
    expect((await run(box, ['cat', '/root/bye'])).stdout).toBe('bye\n');
    expect(box.exits).toEqual([]);
  });

  it('notices that the VM was killed, and ends its commands', async () => {
    const handle = await box.driver.exec(request(['sleep', '1114']));
    await delay(200);
    const killedAt = performance.now();
    process.kill(shimPid(box.homeDir), 'SIGKILL');
    expect(await handle.exit).toHaveProperty('lost');
    console.log(`lost after ${Math.round(performance.now() - killedAt)} ms: ${JSON.stringify(await handle.exit)}`);
    while (box.exits.length === 0) await delay(10);
    console.log(`noticed after ${Math.round(performance.now() - killedAt)} ms: ${box.exits.join()}`);
    expect(vmProcesses(box.homeDir)).toEqual([]);
    await expect(box.driver.exec(request(['true']))).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    expect(box.exits).toHaveLength(1);
    await timed(
      'start after the end',
      box.driver.start(() => undefined, new AbortController().signal),
    );
    expect((await run(box, ['cat', '/root/bye'])).stdout).toBe('bye\n');
    expect((await box.driver.metrics()).memoryBytes).toBeGreaterThan(2 ** 20);
  });

  it('leaves nothing when it is removed', async () => {
    await timed('remove', box.driver.remove());
    expect(vmProcesses(box.homeDir)).toEqual([]);
    expect(existsSync(box.homeDir)).toBe(false);
    await box.driver.remove();
  });
});

describe('a box whose worker process dies', () => {
  let child: ChildProcess;
  let box: TestBox;
  let bootId = '';
  const busybox = '/tool/busybox';

  beforeAll(async () => {
    const outfile = join('node_modules', '.cache', 'boxrun-vm-test', 'driver-child.mjs');
    await build({
      entryPoints: ['test/vm/support/driver-child.ts'],
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      packages: 'external',
      logLevel: 'error',
    });
    child = fork(outfile, [dir, 'box_bbbbbbbbbbbb', JSON.stringify(bare)], { stdio: 'inherit' });
    const [message] = (await once(child, 'message')) as [{ bootId: string }];
    bootId = message.bootId;
    box = makeBox(dir, 'box_bbbbbbbbbbbb', bare);
  });

  afterAll(async () => {
    child.kill('SIGKILL');
    await box.driver.remove();
  });

  it('is adopted by another process, with its background children', async () => {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
    expect(await timed('reattach', box.driver.reattach())).toBe('running');
    expect((await run(box, [busybox, 'cat', '/proc/sys/kernel/random/boot_id'])).stdout).toBe(bootId);
    const ps = [busybox, 'ps'];
    expect(await sleepers(box, 2222, ps)).toBe(1);
    expect(await sleepers(box, 3333, ps)).toBe(1);
    await box.driver.killStrayExecs(new Set(['exec_finished']));
    expect(await sleepers(box, 2222, ps)).toBe(0);
    expect(await sleepers(box, 3333, ps)).toBe(1);
  });

  it('runs and kills commands of an image without a shell', async () => {
    expect((await run(box, ['sh'])).exit).toEqual({ exitCode: 127 });
    const handle = await box.driver.exec(
      request([busybox, 'sh', '-c', '/tool/busybox setsid /tool/busybox sleep 1115 & /tool/busybox sleep 1115']),
    );
    while ((await sleepers(box, 1115, [busybox, 'ps'])) < 2) await delay(50);
    await handle.killTree();
    expect(await handle.exit).toEqual({ exitCode: 137 });
    expect(await sleepers(box, 1115, [busybox, 'ps'])).toBe(0);
  });

  it('runs beside another box, whose volume works', async () => {
    const volume = join(dir, 'volume');
    mkdirSync(volume);
    writeFileSync(join(volume, 'file'), 'from the host');
    const volumes = [{ host_path: volume, guest_path: '/data', readonly: false }];
    const other = makeBox(dir, 'box_cccccccccccc', image, { volumes, network: true });
    try {
      const templates = join(dir, 'images', 'boxlite-homes');
      const kept = readdirSync(templates).flatMap((key) => readdirSync(join(templates, key, 'bases')));
      await timed('second box', createAndStart(other));
      // This box reuses the guest's disk of the first box of its image, which is already removed.
      expect(readdirSync(join(other.homeDir, 'bases')).map((name) => kept.includes(name))).toEqual([true]);
      const both = await Promise.all([
        run(other, ['sh', '-c', 'cat /data/file; echo made >/data/made; df >/dev/null']),
        run(box, [busybox, 'true']),
      ]);
      expect(both[0]).toEqual({ exit: { exitCode: 0 }, stdout: 'from the host', stderr: '' });
      expect(both[1].exit).toEqual({ exitCode: 0 });
      expect(existsSync(join(volume, 'made'))).toBe(true);
      await expectNoWayToHost(other);
      // This kills the outer process of the jail. The engine then believes that the VM has ended.
      process.kill(Number(vmProcesses(other.homeDir)[0]?.trim().split(/\s+/)[0]), 'SIGKILL');
      await delay(500);
      expect(shimPid(other.homeDir)).toBeGreaterThan(0);
      // Commands still run by the agent. Only the engine can kill one.
      const handle = await other.driver.exec(request(['sleep', '1117']));
      await handle.killTree();
      expect(await handle.exit).toEqual({ lost: 'the engine lost track of the VM' });
      expect(other.exits).toEqual(['the engine lost track of the VM']);
    } finally {
      await other.driver.remove();
    }
    expect(vmProcesses(other.homeDir)).toEqual([]);
    expect(box.exits).toEqual([]);
  });

  it('is stopped for the next worker when its VM has ended', async () => {
    await box.driver.close();
    expect(vmProcesses(box.homeDir)).not.toEqual([]);
    process.kill(shimPid(box.homeDir), 'SIGKILL');
    while (vmProcesses(box.homeDir).length > 0) await delay(20);
    expect(await box.driver.reattach()).toBe('stopped');
  });

  it('leaves no socket, process or directory behind', async () => {
    await box.driver.remove();
    expect(vmProcesses(dir)).toEqual([]);
    expect(readdirSync(join(dir, 'boxes'))).toEqual([]);
    expect(socketLinks()).toEqual([]);
    const cgroups = '/sys/fs/cgroup/boxlite';
    const left = existsSync(cgroups)
      ? readdirSync(cgroups, { withFileTypes: true }).filter((entry) => entry.isDirectory())
      : [];
    expect(left).toEqual([]);
  });
});

describe('an image in a registry', () => {
  const hosts: Server[] = [];
  afterAll(() => {
    for (const host of hosts) host.close();
  });

  async function listen(server: Server): Promise<string> {
    hosts.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  function fromRegistry(boxId: string, host: string, path: string): TestBox {
    return makeBox(dir, boxId, { kind: 'registry', reference: `${host}/${path}` }, {}, { insecureRegistries: [host] });
  }

  it('is pulled, with progress, and booted', async () => {
    const host = await listen(serveRegistry({ shell: join(dir, 'shell') }));
    const box = fromRegistry('box_gggggggggggg', host, 'shell:latest');
    try {
      await timed('start from a registry', createAndStart(box));
      expect((await run(box, ['sh', '-c', 'echo $FROM_IMAGE'])).stdout).toBe('yes\n');
    } finally {
      await box.driver.remove();
    }
  });

  it('that is missing, or whose registry cannot be reached, is refused with a hint', async () => {
    const { signal } = new AbortController();
    const host = await listen(serveRegistry({}));
    const missing = fromRegistry('box_hhhhhhhhhhhh', host, 'missing:1');
    await expect(missing.driver.prepareImage(() => undefined, signal)).rejects.toMatchObject({
      code: 'IMAGE_PULL_FAILED',
      hint: /name and the tag|login/,
    });
    await missing.driver.remove();
    const nowhere = fromRegistry('box_iiiiiiiiiiii', '127.0.0.1:1', 'x:1');
    await expect(nowhere.driver.prepareImage(() => undefined, signal)).rejects.toMatchObject({
      code: 'IMAGE_PULL_FAILED',
      hint: /cannot be reached/,
    });
    await nowhere.driver.remove();
  });

  it('whose registry never answers can be canceled', async () => {
    const host = await listen(createServer(() => undefined) as unknown as Server);
    const box = fromRegistry('box_jjjjjjjjjjjj', host, 'x:1');
    const stop = new AbortController();
    const pull = box.driver.prepareImage(() => undefined, stop.signal);
    setTimeout(() => stop.abort(), 300);
    await expect(pull).rejects.toMatchObject({ code: 'CANCELED' });
    await box.driver.remove();
  });
});

it('refuses a volume that the host does not have, and removes a box that was never started', async () => {
  const { signal } = new AbortController();
  const nowhere = makeBox(dir, 'box_dddddddddddd', image, {
    volumes: [{ host_path: '/no/such', guest_path: '/x', readonly: true }],
  });
  await expect(nowhere.driver.create(() => undefined, signal)).rejects.toMatchObject({
    code: 'RUNTIME_ERROR',
    message: 'volume: there is no /no/such on the host',
  });
  await nowhere.driver.remove();
  const unstarted = makeBox(dir, 'box_eeeeeeeeeeee', image);
  await unstarted.driver.create(() => undefined, signal);
  await unstarted.driver.remove();
  expect(existsSync(unstarted.homeDir)).toBe(false);
});
