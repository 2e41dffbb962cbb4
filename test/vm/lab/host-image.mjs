// The emulated host: kernel, initramfs, root disk, QEMU. It is built once per recipe and kept. The folder of a host is
// made under another name and renamed at the end, so a folder with the final name is always complete.

import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { LabError, run } from './command.mjs';
import { openPrivateApt, requirePrograms } from './debian.mjs';
import { hostRecipe, machinePrograms } from './recipe.mjs';

const guestFolder = path.join(import.meta.dirname, 'guest');

/** @typedef {ReturnType<typeof openPrivateApt>} Apt */

/**
 * @typedef {object} Host
 * @property {string} kernel
 * @property {string} initrd
 * @property {string} rootDisk
 * @property {string[]} qemu the emulator's program and its first arguments
 * @property {NodeJS.ProcessEnv} qemuEnv
 */

/**
 * @param {string} cacheFolder
 * @param {(text: string) => void} say
 * @returns {Host} the host for this recipe, built now if it is not there yet.
 */
export function openHost(cacheFolder, say) {
  const folder = path.join(cacheFolder, `host-${recipeKey()}`);
  if (!existsSync(folder)) {
    const startedMs = Date.now();
    say('building the emulated host (about two minutes, once per recipe)');
    build(cacheFolder, folder, say);
    say(`built in ${Math.round((Date.now() - startedMs) / 1000)} s`);
  }
  const own = path.join(folder, 'qemu', 'usr');
  const ownQemu = path.join(own, 'bin', 'qemu-system-x86_64');
  const parts = {
    kernel: path.join(folder, 'vmlinuz'),
    initrd: path.join(folder, 'initrd.img'),
    rootDisk: path.join(folder, 'root.img'),
  };
  if (!existsSync(ownQemu)) return { ...parts, qemu: ['qemu-system-x86_64'], qemuEnv: process.env };
  // This QEMU is not installed, so it must be told where its firmware is.
  const firmware = ['qemu', 'seabios'].flatMap((name) => ['-L', path.join(own, 'share', name)]);
  return { ...parts, qemu: [ownQemu, ...firmware], qemuEnv: qemuEnvironment(own) };
}

/** @returns {string} a hash of everything that goes into the host, also of the Node for the guest. */
function recipeKey() {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([hostRecipe, process.version, statSync(process.execPath).size, process.arch]));
  for (const file of ['initramfs.sh', 'lab-init.sh']) hash.update(readFileSync(path.join(guestFolder, file)));
  return hash.digest('hex').slice(0, 12);
}

/** @param {string} cacheFolder @param {string} folder @param {(text: string) => void} say */
function build(cacheFolder, folder, say) {
  if (process.arch !== 'x64') throw new LabError('the VM lab emulates an x86-64 host and is built on one');
  if (process.getuid?.() !== 0)
    throw new LabError('building the emulated host needs root (debootstrap makes device files and a chroot)');
  requirePrograms(machinePrograms);
  for (const left of readdirSync(cacheFolder).filter((entry) => entry.startsWith('building-')))
    rmSync(path.join(cacheFolder, left), { recursive: true, force: true });
  const work = path.join(cacheFolder, `building-${process.pid}`);
  const done = path.join(work, 'host');
  const root = path.join(work, 'root');
  const kernel = path.join(work, 'kernel');
  mkdirSync(done, { recursive: true });

  const apt = openPrivateApt(path.join(work, 'apt'));
  buildQemu(apt, path.join(done, 'qemu'), say);
  say(`Debian ${apt.release} for the guest`);
  // debootstrap runs in a mount namespace of its own. If it is interrupted, no /proc stays mounted in the folder.
  run('unshare', [
    '--mount',
    'debootstrap',
    '--variant=minbase',
    `--include=${hostRecipe.guestPackages.join(',')}`,
    apt.release,
    root,
    apt.mirror,
  ]);
  apt.unpackKernel(hostRecipe.kernelPackage, kernel);
  const version = installModules(kernel, root);
  copyFileSync(path.join(kernel, 'boot', `vmlinuz-${version}`), path.join(done, 'vmlinuz'));
  buildInitramfs(root, version, path.join(work, 'initramfs'), path.join(done, 'initrd.img'));
  installNode(root);
  prepareRoot(root);
  say('root disk');
  makeDisk(root, path.join(done, 'root.img'), hostRecipe.rootDiskGiB * 1024);
  renameSync(done, folder);
  rmSync(work, { recursive: true, force: true });
}

/**
 * Unpacks the newer QEMU of the release's backports: with it, the emulated host has never frozen. If there is none, the
 * QEMU of the release is used. It also works, but the watchdog sometimes has to start the host again.
 *
 * @param {Apt} apt @param {string} target @param {(text: string) => void} say
 */
function buildQemu(apt, target, say) {
  try {
    apt.unpackBackport('qemu-system-x86', target);
    const version = run(path.join(target, 'usr/bin/qemu-system-x86_64'), ['--version'], {
      env: qemuEnvironment(path.join(target, 'usr')),
    });
    say(version.split('\n')[0]);
  } catch (error) {
    rmSync(target, { recursive: true, force: true });
    requirePrograms({ 'qemu-system-x86_64': 'qemu-system-x86' });
    say(`QEMU of the machine (none from backports: ${String(error).split('\n')[0]})`);
  }
}

/** @param {string} usr @returns {NodeJS.ProcessEnv} variables by which this QEMU finds its libraries. */
function qemuEnvironment(usr) {
  const lib = path.join(usr, 'lib', 'x86_64-linux-gnu');
  return {
    ...process.env,
    LD_LIBRARY_PATH: `${lib}:${path.join(usr, '..', 'lib', 'x86_64-linux-gnu')}`,
    QEMU_MODULE_DIR: path.join(lib, 'qemu'),
  };
}

/** @param {string} kernel @param {string} root @returns {string} the kernel's version */
function installModules(kernel, root) {
  const version = readdirSync(path.join(kernel, 'lib', 'modules'))[0] ?? '';
  const from = path.join(kernel, 'lib', 'modules', version);
  const to = path.join(root, 'lib', 'modules', version);
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from).filter((entry) => entry.startsWith('modules.')))
    copyFileSync(path.join(from, name), path.join(to, name));
  for (const folder of hostRecipe.moduleFolders) {
    const source = path.join(from, 'kernel', folder);
    // A release may have the code of a folder built into the kernel. Then the folder is missing, and nothing has to be
    // loaded.
    if (existsSync(source)) cpSync(source, path.join(to, 'kernel', folder), { recursive: true });
  }
  run('chroot', [root, 'depmod', version]);
  return version;
}

/** @param {string} root @param {string} version @param {string} work @param {string} target */
function buildInitramfs(root, version, work, target) {
  for (const folder of ['bin', 'modules']) mkdirSync(path.join(work, folder), { recursive: true });
  copyFileSync(path.join(root, 'bin', 'busybox'), path.join(work, 'bin', 'busybox'));
  /** @type {string[]} */
  const names = [];
  for (const module of hostRecipe.bootModules) {
    const needed = run('chroot', [root, 'modprobe', '-S', version, '--show-depends', module]);
    for (const [, file = ''] of needed.matchAll(/^insmod (\S+)/gm)) {
      const name = path.basename(file);
      if (names.includes(name)) continue;
      names.push(name);
      copyFileSync(path.join(root, file), path.join(work, 'modules', name));
    }
  }
  const script = readFileSync(path.join(guestFolder, 'initramfs.sh'), 'utf8').replace(
    'in MODULES;',
    `in ${names.join(' ')};`,
  );
  writeFileSync(path.join(work, 'init'), script, { mode: 0o755 });
  const archive = `find . | ./bin/busybox cpio -o -H newc 2>/dev/null >"$0"`;
  run('sh', ['-c', archive, target], { cwd: work });
}

/**
 * Copies the machine's own Node, because the native modules in node_modules were installed for it.
 * @param {string} root
 */
function installNode(root) {
  const target = path.join(root, 'usr', 'local', 'bin', 'node');
  copyFileSync(process.execPath, target);
  chmodSync(target, 0o755);
  for (const [library] of run('ldd', [process.execPath]).matchAll(/\/\S+\.so\S*/g)) {
    if (existsSync(path.join(root, library))) continue;
    mkdirSync(path.dirname(path.join(root, library)), { recursive: true });
    copyFileSync(library, path.join(root, library));
  }
}

/** @param {string} root */
function prepareRoot(root) {
  rmSync(path.join(root, 'var/cache/apt'), { recursive: true, force: true });
  rmSync(path.join(root, 'var/lib/apt/lists'), { recursive: true, force: true });
  for (const folder of ['share', 'project']) mkdirSync(path.join(root, folder), { recursive: true });
  writeFileSync(path.join(root, 'etc/hosts'), '127.0.0.1 localhost lab\n::1 localhost\n');
  copyFileSync(path.join(guestFolder, 'lab-init.sh'), path.join(root, 'sbin/lab-init'));
  chmodSync(path.join(root, 'sbin/lab-init'), 0o755);
}

/**
 * Makes an ext4 image with the content of a folder, without mounting it. The image has no journal: the guest writes
 * only into a snapshot, which is thrown away.
 * @param {string} folder @param {string} image @param {number} sizeMiB
 */
export function makeDisk(folder, image, sizeMiB) {
  rmSync(image, { force: true });
  run('mke2fs', ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', folder, image, `${sizeMiB}M`]);
}
