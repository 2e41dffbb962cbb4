// What the emulated host is made of: packages, kernel modules, sizes, QEMU flags and times.
// Read by every other file of the lab. Whatever is in `hostRecipe` goes into the key of the
// cached host image, so changing it builds a new image; the rest may change without a build.

export const hostRecipe = {
  /** Raise it when the build changes in a way nothing below shows. */
  revision: 1,
  /** In the guest beside debootstrap's smallest variant. busybox-static also makes the initramfs. */
  guestPackages: ['busybox-static', 'kmod', 'iproute2', 'procps'],
  kernelPackage: 'linux-image-amd64',
  /** Sparse: the size the guest sees, not what the file takes. Boxes and their images live on it. */
  rootDiskGiB: 16,
  /** Loaded by the initramfs before there is a root file system. */
  bootModules: ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4'],
  /**
   * Folders below `kernel/` copied into the guest. `drivers/crypto/ccp` looks out of place, but
   * kvm_amd has unknown symbols without it.
   */
  moduleFolders: [
    'arch/x86',
    'virt',
    'crypto',
    'lib',
    'block',
    'net/9p',
    'net/vmw_vsock',
    'net/netfilter',
    'net/ipv4',
    'net/ipv6',
    'net/bridge',
    'net/802',
    'net/llc',
    'net/core',
    'fs/ext4',
    'fs/jbd2',
    'fs/mbcache.ko',
    'fs/overlayfs',
    'fs/fuse',
    'fs/9p',
    'fs/netfs',
    'fs/fscache',
    'drivers/virtio',
    'drivers/vhost',
    'drivers/block',
    'drivers/char',
    'drivers/crypto/ccp',
    'drivers/net/tun.ko',
    'drivers/net/tap.ko',
    'drivers/net/veth.ko',
  ],
};

/** Programs the lab itself calls on the machine, and the Debian package each comes from. */
export const machinePrograms = {
  debootstrap: 'debootstrap',
  mke2fs: 'e2fsprogs',
  setpriv: 'util-linux',
  unshare: 'util-linux',
  flock: 'util-linux',
};

export const limits = {
  /** The daemon's processes and two boxes fit; one box alone needs 1 GiB. */
  memoryMiB: 4096,
  /** Room for what tests write into the project tree. */
  projectDiskSpareMiB: 512,
  probeTimeoutMs: 40_000,
  /** The guest beats every 5 s on its serial console, however quiet the tests are. */
  silenceMaxMs: 90_000,
  startsMax: 3,
  deadlineDefaultMs: 15 * 60_000,
};

/**
 * QEMU's command line. Software emulation of an AMD processor with its virtualization, since that
 * is what lets kvm-amd load in the guest. One virtual CPU is steadier than two.
 *
 * @param {{kernel: string, initrd: string, disks: string[], share: string, consoleLog: string}} parts
 * @returns {string[]}
 */
export function qemuArguments({ kernel, initrd, disks, share, consoleLog }) {
  const drives = disks.flatMap((file, index) => [
    // snapshot=on: the guest's writes go to an unlinked temporary file, and the image stays as built.
    '-drive',
    `file=${file},if=none,id=d${index},format=raw,cache=unsafe,snapshot=on`,
    '-device',
    `virtio-blk-pci,drive=d${index},serial=disk${index}`,
  ]);
  return [
    '-machine',
    'q35',
    '-accel',
    'tcg,thread=multi,tb-size=1024',
    '-cpu',
    'EPYC-v1,+svm',
    '-smp',
    '1',
    '-m',
    String(limits.memoryMiB),
    '-display',
    'none',
    '-nodefaults',
    '-no-reboot',
    '-kernel',
    kernel,
    '-initrd',
    initrd,
    // panic=-1 with -no-reboot ends QEMU at a kernel panic instead of leaving it to the watchdog.
    '-append',
    'console=ttyS0 quiet mitigations=off nokaslr tsc=reliable panic=-1',
    ...drives,
    '-device',
    'virtio-rng-pci',
    '-fsdev',
    `local,id=share,path=${share},security_model=none`,
    '-device',
    'virtio-9p-pci,fsdev=share,mount_tag=share',
    // Kernel messages and heartbeats have a console of their own, so the tests' output stays clean.
    '-serial',
    `file:${consoleLog}`,
    '-chardev',
    'stdio,id=output,signal=off',
    '-device',
    'virtio-serial-pci',
    '-device',
    'virtserialport,chardev=output,name=output',
  ];
}
