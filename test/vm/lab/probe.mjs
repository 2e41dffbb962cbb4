// The probe of KVM on this machine, once for each boot of the machine. A usable `/dev/kvm` is not enough: with nested
// virtualization, VMs can often be made but never come up. So the probe boots a box, in a child process that is killed
// after a deadline.

import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { requirePrograms } from './debian.mjs';
import { findStaticBusybox } from './busybox-image.mjs';
import { limits } from './recipe.mjs';

/**
 * @param {string} cacheFolder
 * @returns {Promise<{boots: boolean, reason: string}>}
 */
export async function probeKvm(cacheFolder) {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const file = path.join(cacheFolder, 'kvm-probe.json');
  if (existsSync(file)) {
    const known = JSON.parse(readFileSync(file, 'utf8'));
    if (known.bootId === bootId) return known;
  }
  const answer = { bootId, ...(await probe()) };
  mkdirSync(cacheFolder, { recursive: true });
  writeFileSync(file, JSON.stringify(answer));
  return answer;
}

/** @returns {Promise<{boots: boolean, reason: string}>} */
async function probe() {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return { boots: false, reason: 'no usable /dev/kvm' };
  }
  if (!findStaticBusybox()) requirePrograms({ 'static busybox': 'busybox-static' });
  // The child has a process group of its own, so that the kill at the deadline also ends the processes of the VM.
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'smoke.mjs')], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  const kill = () => child.pid && killGroup(child.pid);
  const deadline = setTimeout(kill, limits.probeTimeoutMs);
  process.once('exit', kill);
  const code = await new Promise((resolve) => child.once('close', resolve));
  clearTimeout(deadline);
  process.removeListener('exit', kill);
  kill();
  if (code === 0) return { boots: true, reason: 'a box booted' };
  return {
    boots: false,
    reason:
      /(?:engine reported an error|Error): ([A-Z][^.\n]*)/.exec(output)?.[1] ??
      `no box within ${limits.probeTimeoutMs / 1000} s`,
  };
}

/** @param {number} pid */
function killGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // No process of the group is left.
  }
}
