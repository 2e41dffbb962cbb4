// The recipe of the emulated host: packages, kernel modules, sizes, QEMU flags and times. `hostRecipe` is a part of the
// key of the cached host image, so a change there builds a new image. A change of the rest does not.

export const hostRecipe = {
  /** Increase this number when the build changes but no other value here. */
  revision: 1,
  /** Packages in the guest, in addition to debootstrap's smallest variant. The initramfs also uses busybox-static. */
  guestPackages: ['busybox-static', 'kmod', 'iproute2', 'procps'],
  kernelPackage: 'linux-image-amd64',
  /** The size that the guest sees. The file is sparse and takes less. Boxes and their images are on this disk. */
  rootDiskGiB: 16,
  /** The initramfs loads these modules before it mounts the root file system. */
  bootModules: ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4'],
  /** Folders below `kernel/` that are copied into the guest. kvm_amd needs symbols of `drivers/crypto/ccp`. */
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

/** The programs that the lab calls on this machine, each with its Debian package. */
export const machinePrograms = {
  debootstrap: 'debootstrap',
  mke2fs: 'e2fsprogs',
  setpriv: 'util-linux',
  unshare: 'util-linux',
  flock: 'util-linux',
};

export const limits = {
  /** Enough for the processes of the server and two boxes. One box alone needs 1 GiB. */
  memoryMiB: 4096,
  /** Space for the files that tests write into the project tree. */
  projectDiskSpareMiB: 512,
  probeTimeoutMs: 40_000,
  /** The guest prints a heartbeat on its serial console every 5 s. After so much silence, it counts as frozen. */
  silenceMaxMs: 90_000,
  startsMax: 3,
  deadlineDefaultMs: 15 * 60_000,
};

/**
 * Returns QEMU's command line. QEMU emulates an AMD processor with virtualization, so kvm-amd can be loaded in the
 * guest. With one virtual CPU, the guest is more stable than with two.
 * @param {{kernel: string, initrd: string, disks: string[], share: string, consoleLog: string}} parts
 * @returns {string[]}
 */
export function qemuArguments({ kernel, initrd, disks, share, consoleLog }) {
  const drives = disks.flatMap((file, index) => [
    // With snapshot=on, the guest writes into a temporary file, and the image does not change.
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
    // panic=-1 and -no-reboot end QEMU at a kernel panic at once. Otherwise the watchdog would have to notice it.
    '-append',
    'console=ttyS0 quiet mitigations=off nokaslr tsc=reliable panic=-1',
    ...drives,
    '-device',
    'virtio-rng-pci',
    '-fsdev',
    `local,id=share,path=${share},security_model=none`,
    '-device',
    'virtio-9p-pci,fsdev=share,mount_tag=share',
    // Kernel messages and heartbeats go to a console of their own, and not into the output of the tests.
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
