// The OCI configuration of a box: namespaces, capabilities, mounts, limits. Pure: the spec goes in, data comes out.
// A box gets what a default container gets, without MKNOD, NET_RAW and many system calls. Its user ids belong to no
// user of the host.
import type { Ulimit } from '../../../../shared/api.ts';
import { hostArchitecture } from '../../../../shared/images/oci-layout.ts';
import type { IdRange } from '../../../../shared/host/id-ranges.ts';
import { limits } from '../../../../shared/limits.ts';
import { byDepth, guestPlace } from '../../../../shared/boxes/volume-places.ts';
import type { BoxSpec } from '../../driver-contract.ts';
import { stageDir, toolsInBox } from '../paths.ts';
import { boxUmask, processLimits } from '../host/process-limits.ts';
import { seccompProfile } from '../host/seccomp.ts';

export const boxCapabilities = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_NET_BIND_SERVICE',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
] as const;

export const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const maskedPaths = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];
const cpuPeriodMicros = 100_000;

export interface BundleOptions {
  readonly spec: BoxSpec;
  readonly cgroup: string;
  /** Directory with the static programs that the driver uses inside the box. */
  readonly toolsDir: string;
  /** Directory with the box's own hosts, hostname and resolv.conf. */
  readonly etcDir: string;
  readonly initArgs: readonly string[];
  /** The host's ids for the ids 0 to 65,535 in the box. */
  readonly shift: IdRange;
  /** Path of a user namespace that exists already. Null: the runtime makes one. */
  readonly userNamespace: string | null;
  /** Limits of the first process. */
  readonly limits: readonly Ulimit[];
  /** True when the runtime and the file system at a volume's host path can map ids. */
  readonly mapsVolume: (hostPath: string) => boolean;
}

interface OciMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
  readonly uidMappings?: readonly IdMapping[];
  readonly gidMappings?: readonly IdMapping[];
}

interface IdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

/** Returns the content of the bundle's config.json. */
export function ociConfig(options: BundleOptions) {
  const { spec, shift, userNamespace } = options;
  const mapping = idMapping(shift);
  const own = ['pid', 'ipc', 'uts', 'mount', 'network', 'cgroup', ...(userNamespace === null ? ['user'] : [])];
  const namespaces = [
    ...own.map((type) => ({ type })),
    ...(userNamespace === null ? [] : [{ type: 'user', path: userNamespace }]),
  ];
  return {
    ociVersion: '1.0.2',
    root: { path: `${stageDir}/root`, readonly: false },
    hostname: hostnameOf(spec),
    process: {
      terminal: false,
      user: { uid: 0, gid: 0, umask: boxUmask },
      args: options.initArgs,
      env: [`PATH=${defaultPath}`],
      // The runtime makes this directory if the image lacks it, as Docker does for a WORKDIR.
      cwd: spec.workdir,
      capabilities: { bounding: boxCapabilities, effective: [], inheritable: [], permitted: [], ambient: [] },
      noNewPrivileges: true,
      ...processLimits(options.limits),
    },
    mounts: allMounts(options),
    linux: {
      namespaces,
      ...(userNamespace === null ? { uidMappings: mapping, gidMappings: mapping } : {}),
      cgroupsPath: `/${options.cgroup}`,
      resources: boxResources(spec),
      sysctl: networkSettings(shift),
      seccomp: seccompProfile(hostArchitecture()),
      maskedPaths,
      readonlyPaths,
    },
  };
}

/** The box id as a host name. A host name may contain no underscore. */
export function hostnameOf(spec: BoxSpec): string {
  return spec.boxId.replace(/[^A-Za-z0-9]+/g, '-').replace(/-+$/, '');
}

function idMapping(shift: IdRange): IdMapping[] {
  return [{ containerID: 0, hostID: shift.base, size: shift.size }];
}

/** In the box's own network namespace every user may ping and listen on every port, as with Docker. */
function networkSettings(shift: IdRange) {
  return { 'net.ipv4.ping_group_range': `0 ${shift.size - 1}`, 'net.ipv4.ip_unprivileged_port_start': '0' };
}

function boxResources(spec: BoxSpec) {
  const memoryBytes = spec.memoryMb * 2 ** 20;
  return {
    devices: [{ allow: false, access: 'rwm' }],
    // The sum of memory and swap has the same limit, so there is no swap: the kernel kills a process instead.
    memory: { limit: memoryBytes, swap: memoryBytes },
    cpu: { quota: Math.round((spec.cpuLimit ?? spec.cpu) * cpuPeriodMicros), period: cpuPeriodMicros },
    pids: { limit: limits.boxProcessesMax },
  };
}

/** A volume replaces the box's own mount at the same place. Mounts inside a volume come after the volume. */
function allMounts(options: BundleOptions): OciMount[] {
  const volumes = options.spec.volumes.map((volume) => volumeMount(volume, options));
  const places = new Set(volumes.map(({ destination }) => destination));
  const own = [...systemMounts(options.spec), ...fileMounts(options)].filter(
    ({ destination }) => !places.has(destination),
  );
  return byDepth([...own, ...volumes], ({ destination }) => destination);
}

/** /dev/shm may take half of the box's memory, as on a machine. The kernel's default is half of the host's memory. */
function systemMounts({ memoryMb }: BoxSpec): OciMount[] {
  const plain = ['nosuid', 'noexec', 'nodev'];
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: plain },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: [...plain, 'mode=1777', `size=${memoryMb * 512}k`],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: plain },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...plain, 'ro'] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [...plain, 'relatime', 'ro'] },
  ];
}

function fileMounts({ toolsDir, etcDir }: BundleOptions): OciMount[] {
  const file = (name: string): OciMount => ({
    destination: `/etc/${name}`,
    type: 'bind',
    source: `${etcDir}/${name}`,
    options: ['bind', 'rw', 'nosuid', 'nodev', 'noexec'],
  });
  return [
    { destination: toolsInBox, type: 'bind', source: toolsDir, options: ['bind', 'ro', 'nosuid', 'nodev'] },
    file('hosts'),
    file('hostname'),
    file('resolv.conf'),
  ];
}

function volumeMount(volume: BoxSpec['volumes'][number], { shift, mapsVolume }: BundleOptions): OciMount {
  const mapped = mapsVolume(volume.host_path);
  const mapping = mapped ? idMapping(shift) : [];
  return {
    destination: guestPlace(volume.guest_path),
    type: 'bind',
    source: volume.host_path,
    options: [
      'rbind',
      // With mapped ids, the runtime mounts the directory without the mounts below it, so `ro` covers all of the
      // volume. Otherwise there may be such mounts. `rro` makes them read-only, too.
      volume.readonly ? (mapped ? 'ro' : 'rro') : 'rw',
      'nosuid',
      'nodev',
      ...(mapped ? ['idmap'] : []),
    ],
    ...(mapped ? { uidMappings: mapping, gidMappings: mapping } : {}),
  };
}
