// Answers once per boot of this machine: does KVM really boot a VM here? `/dev/kvm` alone does not
// tell; nested virtualization may create VMs that never come up. So a box is booted, in a process of
// its own that is killed after a deadline.

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
  const answer = { bootId, ...(await ask()) };
  mkdirSync(cacheFolder, { recursive: true });
  writeFileSync(file, JSON.stringify(answer));
  return answer;
}

/** @returns {Promise<{boots: boolean, reason: string}>} */
async function ask() {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return { boots: false, reason: 'no usable /dev/kvm' };
  }
  if (!findStaticBusybox()) requirePrograms({ 'static busybox': 'busybox-static' });
  // A group of its own, so that the deadline ends the VM's processes as well.
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'smoke.mjs')], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stdout.on('data', (chunk) => (said += chunk));
  child.stderr.on('data', (chunk) => (said += chunk));
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
      /(?:engine reported an error|Error): ([A-Z][^.\n]*)/.exec(said)?.[1] ??
      `no box within ${limits.probeTimeoutMs / 1000} s`,
  };
}

/** @param {number} pid */
function killGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody of the group is left.
  }
}
