// Tests the probe of the container driver on hosts where it cannot work, and a real box on each installed OCI runtime.
// The unusual hosts are namespaces of this host.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createBoxDriver } from '../../src/worker/drivers/container/container-box.ts';
import { probeContainerHost, type ContainerHostReport } from '../../src/worker/drivers/container/container-driver.ts';
import { findRuntime, runtimeNames, type OciRuntime } from '../../src/worker/drivers/container/host/runtime.ts';
import type { CreateDriver } from '../../src/worker/drivers/driver-contract.ts';
import { bundleFixture } from '../support/runs/bundle.ts';
import { describeOnHost, useBoxes } from '../support/boxes/container-boxes.ts';

const boxes = useBoxes();
let fixture = '';
beforeAll(async () => {
  fixture = await bundleFixture(join(import.meta.dirname, '../fixtures/container-probe.ts'));
});

function probeAs(...args: string[]): ContainerHostReport {
  const output = execFileSync('setpriv', [...args, process.execPath, fixture], { encoding: 'utf8', cwd: '/' });
  return JSON.parse(output) as ContainerHostReport;
}

describe('the probe', () => {
  test.runIf(process.getuid?.() === 0)('fails and names the problem without the rights of root', () => {
    const report = probeAs('--reuid', '0', '--bounding-set', '-sys_admin', '--inh-caps', '-sys_admin');
    expect(report).toMatchObject({ ok: false, runtime: null });
    expect(report.problems.join(' ')).toMatch(/no OCI runtime works on this host.*(permitted|unshare|denied)/s);
  });
});

describeOnHost('the probe', () => {
  test('succeeds on this host', async () => {
    expect(await probeContainerHost()).toMatchObject({
      ok: true,
      runtime: expect.stringMatching(/^(crun|runc)$/) as unknown,
    });
  });
});

/**
 * Makes a slow OCI runtime: it creates the first process of a box, writes its pid, and waits half a second before it
 * lets the process begin.
 */
function slowStarter({ name, path }: OciRuntime): string {
  const script = join(mkdtempSync(join(tmpdir(), 'boxrun-slow-')), name);
  onTestFinished(() => {
    rmSync(dirname(script), { recursive: true });
  });
  // Its arguments: --root R --log L run --bundle B --pid-file P ID
  writeFileSync(
    script,
    `#!/bin/sh
case " $* " in *" run "*) ;; *) exec ${path} "$@" ;; esac
root=$2 log=$4 bundle=$7 pid=$9
shift 9
${path} --root "$root" --log "$log" create --bundle "$bundle" --pid-file "$pid" "$1" || exit
sleep 0.5
${path} --root "$root" --log "$log" start "$1"
while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.02; done
${path} --root "$root" delete -f "$1"
`,
    { mode: 0o755 },
  );
  return script;
}

const installed = (await Promise.all(runtimeNames.map(findRuntime))).filter(
  (runtime): runtime is OciRuntime => runtime !== null,
);

describeOnHost.each(installed.map((runtime) => [runtime.name, runtime] as const))('on %s', (_name, runtime) => {
  const create: CreateDriver = (context) =>
    createBoxDriver(context, { insecureRegistries: [], agent: 'off', runtime: async () => runtime });

  test('a box runs commands, a new driver takes it over, and a stop kills everything in it', async () => {
    const box = await boxes.started({ spec: { env: { A: '1' } } }, create);
    expect(await box.run(['sh', '-c', 'echo $A; echo e >&2; exit 7'])).toEqual({
      stdout: '1\n',
      stderr: 'e\n',
      exit: { exitCode: 7 },
    });
    expect((await box.run(['nosuch'])).exit).toEqual({ exitCode: 127 });
    expect((await box.run(['true'], { workdir: '/nowhere' })).exit).toEqual({ exitCode: 1 });
    expect((await box.run(['sh', '-c', 'grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status'])).stdout).toBe(
      'CapEff:\t00000000a00405fb\nNoNewPrivs:\t1\nSeccomp:\t2\n',
    );
    const tree = await box.exec(['sh', '-c', 'setsid sleep 1000 & echo up; sleep 1001']);
    await once(tree.stdout, 'data');
    await tree.killTree();
    expect(await tree.exit).toEqual({ exitCode: 137 });
    const trap = await box.exec(['sh', '-c', 'trap "exit 9" USR1; sleep 1000 & echo up; while :; do sleep 0.02; done']);
    await once(trap.stdout, 'data');
    await trap.signal(10);
    expect(await trap.exit).toEqual({ exitCode: 9 });
    await trap.killTree();
    await box.driver.close();
    const second = box.successor(create);
    expect(await second.driver.reattach()).toBe('running');
    expect((await second.run(['ps', '-o', 'args'])).stdout).not.toContain('sleep');
    await second.driver.stop(100);
  });

  test('a started box runs a command at once, even with a slow runtime', async () => {
    const path = slowStarter(runtime);
    const box = await boxes.started({}, (context) =>
      createBoxDriver(context, { insecureRegistries: [], agent: 'off', runtime: async () => ({ ...runtime, path }) }),
    );
    // Process 1 is already the init of the box, and no longer the OCI runtime that prepares it.
    expect((await box.run(['cat', '/proc/1/cmdline'])).stdout).toMatch(/^\/dev\/\.boxrun\//);
  });
});

/** Runs the probe in a mount namespace that the script `change` has changed. Its $1 is the path of the boxes. */
function probeWhere(change: string, place: string): ContainerHostReport {
  const output = execFileSync(
    'unshare',
    ['-m', 'sh', '-ec', `${change}; exec "$2" "$3" "$1/images"`, 'sh', place, process.execPath, fixture],
    { encoding: 'utf8' },
  );
  return JSON.parse(output) as ContainerHostReport;
}

describeOnHost('the probe on an unusual host', () => {
  const staticDev = `
    mkdir "$1/dev"; for name in null zero full random urandom tty ptmx; do cp -a "/dev/$name" "$1/dev/"; done
    mkdir "$1/dev/pts" "$1/dev/shm" "$1/dev/fd.d"; ln -s /proc/self/fd "$1/dev/fd"`;
  const onOverlay = `
    mkdir "$1/tmpfs"; mount -t tmpfs tmpfs "$1/tmpfs"; mkdir "$1/tmpfs/upper" "$1/tmpfs/work" "$1/tmpfs/lower" "$1/images"
    mount -t overlay overlay -o "lowerdir=$1/tmpfs/lower,upperdir=$1/tmpfs/upper,workdir=$1/tmpfs/work" "$1/images"`;
  const place = () => {
    const dir = mkdtempSync(join(tmpdir(), 'boxrun-unusual-'));
    onTestFinished(() => {
      rmSync(dir, { recursive: true, force: true });
    });
    return dir;
  };

  test('succeeds with a static /dev without nodes for loop devices', () => {
    const report = probeWhere(`${staticDev}; cp -a /dev/loop-control "$1/dev/"; mount --bind "$1/dev" /dev`, place());
    expect(report).toMatchObject({ ok: true });
  });

  test('fails with a read-only /dev, and says what to do', () => {
    const report = probeWhere(
      `${staticDev}; cp -a /dev/loop-control "$1/dev/"; mount --bind "$1/dev" /dev; mount -o remount,ro,bind /dev`,
      place(),
    );
    expect(report.ok).toBe(false);
    expect(report.problems.join(' ')).toMatch(
      /loop device.*allow this host more of them, or give the server the \/dev of the host/s,
    );
  });

  test('succeeds with a state directory on overlayfs and loop devices, and fails without loop devices', () => {
    expect(probeWhere(onOverlay, place())).toMatchObject({ ok: true });
    const report = probeWhere(`${onOverlay}; ${staticDev}; mount --bind "$1/dev" /dev`, place());
    expect(report.ok).toBe(false);
    expect(report.problems.join(' ')).toMatch(
      /give the server loop devices \(\/dev\/loop-control\), or another state directory/,
    );
  });
});
