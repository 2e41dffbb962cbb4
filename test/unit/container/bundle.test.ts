// The OCI configuration of a box and its system call filter, both as data. No runtime is started.
import { describe, expect, test } from 'vitest';
import type { BoxSpec } from '../../../src/worker/drivers/driver-contract.ts';
import { sharedRange } from '../../../src/shared/host/id-ranges.ts';
import {
  boxCapabilities,
  hostnameOf,
  ociConfig,
  type BundleOptions,
} from '../../../src/worker/drivers/container/box/bundle.ts';
import { cgroupOf } from '../../../src/worker/drivers/container/paths.ts';
import { seccompProfile } from '../../../src/worker/drivers/container/host/seccomp.ts';

const spec: BoxSpec = {
  boxId: 'box_x7Kq0aZ-_b3T',
  image: { kind: 'registry', reference: 'alpine:3.20' },
  cpu: 3,
  memoryMb: 512,
  diskSizeGb: 8,
  network: false,
  workdir: '/work',
  env: {},
  volumes: [
    { host_path: '/srv/a', guest_path: '/a', readonly: true },
    { host_path: '/srv/b', guest_path: '/b', readonly: false },
  ],
};

function config(overrides: Partial<BundleOptions> = {}) {
  return ociConfig({
    spec,
    cgroup: 'boxrun-x/box',
    toolsDir: '/tools',
    etcDir: '/etc-files',
    initArgs: ['/init'],
    shift: sharedRange,
    userNamespace: null,
    limits: [],
    mapsVolume: () => true,
    ...overrides,
  });
}

describe('the configuration of a box', () => {
  test('has every namespace, and ids that belong to no user of the host', () => {
    const { linux } = config();
    expect(linux.namespaces.map(({ type }) => type).sort()).toEqual([
      'cgroup',
      'ipc',
      'mount',
      'network',
      'pid',
      'user',
      'uts',
    ]);
    expect(linux).toMatchObject({ uidMappings: [{ containerID: 0, hostID: sharedRange.base, size: 65_536 }] });
  });

  test('allows twelve capabilities, and gives the first process none', () => {
    expect(boxCapabilities).toHaveLength(12);
    for (const name of ['CAP_SYS_ADMIN', 'CAP_MKNOD', 'CAP_NET_RAW', 'CAP_NET_ADMIN', 'CAP_SYS_PTRACE'])
      expect(boxCapabilities).not.toContain(name);
    expect(config().process).toMatchObject({
      noNewPrivileges: true,
      capabilities: { bounding: boxCapabilities, effective: [], permitted: [], ambient: [] },
    });
  });

  test('limits memory (without swap), CPU and processes, and denies devices', () => {
    expect(config().linux.resources).toEqual({
      devices: [{ allow: false, access: 'rwm' }],
      memory: { limit: 512 * 2 ** 20, swap: 512 * 2 ** 20 },
      cpu: { quota: 300_000, period: 100_000 },
      pids: { limit: 4096 },
    });
    const limited = config({ spec: { ...spec, cpuLimit: 0.015 } });
    expect(limited.linux.resources.cpu).toEqual({ quota: 1_500, period: 100_000 });
  });

  test('maps the ids of volumes if it can, and otherwise makes a read-only volume recursively read-only', () => {
    const volumes = (mapsVolume: () => boolean) =>
      config({ mapsVolume })
        .mounts.filter(({ destination }) => /^\/[ab]$/.test(destination))
        .map(({ destination, options }) => [destination, ...options]);
    expect(volumes(() => true)).toEqual([
      ['/a', 'rbind', 'ro', 'nosuid', 'nodev', 'idmap'],
      ['/b', 'rbind', 'rw', 'nosuid', 'nodev', 'idmap'],
    ]);
    expect(volumes(() => false)).toEqual([
      ['/a', 'rbind', 'rro', 'nosuid', 'nodev'],
      ['/b', 'rbind', 'rw', 'nosuid', 'nodev'],
    ]);
  });

  test('makes a host name without underscores, and control groups with the names of the database and the box', () => {
    expect(hostnameOf(spec)).toBe('box-x7Kq0aZ-b3T');
    expect(cgroupOf('inst_abc-_1', spec.boxId)).toEqual({
      parent: 'boxrun-abc-_1',
      box: `boxrun-abc-_1/${spec.boxId}`,
    });
  });
});

describe('the system call filter', () => {
  const { defaultAction, defaultErrnoRet, architectures, syscalls } = seccompProfile('amd64');
  const plain = (action: string) =>
    syscalls.filter((rule) => rule.action === action && rule.args === undefined).flatMap((rule) => rule.names);

  test('answers an unknown call with ENOSYS, as a kernel without that call does', () => {
    expect([defaultAction, defaultErrnoRet, architectures]).toEqual(['SCMP_ACT_ERRNO', 38, ['SCMP_ARCH_X86_64']]);
    expect(seccompProfile('arm64').architectures).toEqual(['SCMP_ARCH_AARCH64']);
  });

  test('names each call once', () => {
    const names = [...plain('SCMP_ACT_ALLOW'), ...plain('SCMP_ACT_ERRNO')];
    expect(new Set(names).size).toBe(names.length);
  });

  test('never allows dangerous calls, nor clone3, whose flags a filter cannot read', () => {
    const allowed = plain('SCMP_ACT_ALLOW');
    for (const name of [
      'mount',
      'umount2',
      'unshare',
      'setns',
      'clone',
      'clone3',
      'ptrace',
      'keyctl',
      'bpf',
      'io_uring_setup',
      'open_by_handle_at',
      'socket',
      'personality',
    ]) {
      expect(allowed).not.toContain(name);
    }
  });
});
