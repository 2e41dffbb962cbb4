// One start of the emulated host: QEMU as a child process that cannot outlive this process, and a watchdog on the
// serial console of the guest. The output of the guest is passed on at once. A command that ended, with any exit code,
// counts as a result and never as a failure of the emulation.

import { spawn } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import path from 'node:path';
import { limits, qemuArguments } from './recipe.mjs';

/** From -20 to 19, lower is preferred. */
const emulatorNice = -10;

/** Messages of a kernel whose emulated processor is stuck. */
const stuck = /soft lockup|self-detected stall|Kernel panic/;

/**
 * @typedef {{kind: "ended", exitCode: number, bootMs: number} | {kind: "froze", reason: string} | {kind: "late"}}
 * Outcome
 *   "froze": the emulation failed. "late": the command did not end before the deadline.
 */

/**
 * @param {import("./host-image.mjs").Host} host
 * @param {{disks: string[], share: string, consoleLog: string, deadlineMs: number, onOutput: (chunk: Buffer) => void,
 * signal: AbortSignal}} options
 * @returns {Promise<Outcome>}
 */
export async function startHost(host, { disks, share, consoleLog, deadlineMs, onOutput, signal }) {
  writeFileSync(consoleLog, '');
  const args = qemuArguments({
    kernel: host.kernel,
    initrd: host.initrd,
    disks: [host.rootDisk, ...disks],
    share,
    consoleLog,
  });
  // The kernel kills QEMU when this process ends, also after SIGKILL. The input of QEMU is a pipe that stays open: at
  // the end of its input, QEMU would treat the guest's port as disconnected and drop its output.
  const qemu = spawn('setpriv', ['--pdeathsig', 'KILL', ...host.qemu, ...args], {
    env: host.qemuEnv,
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true, // QEMU gets a session of its own for preferEmulator.
  });
  if (qemu.pid !== undefined) preferEmulator(qemu.pid);
  const startedMs = Date.now();
  /** @type {Outcome | undefined} */
  let verdict;
  let complaint = '';
  const kill = () => qemu.kill('SIGKILL');
  /** @param {Outcome} outcome */
  const end = (outcome) => {
    verdict ??= outcome;
    kill();
  };

  qemu.stdout.on('data', onOutput);
  qemu.stderr.on('data', (chunk) => (complaint += chunk));
  signal.addEventListener('abort', kill);
  const deadline = setTimeout(() => end({ kind: 'late' }), deadlineMs);
  const watchdog = watch(consoleLog, (reason) => end({ kind: 'froze', reason }));
  const ended = await new Promise((resolve) => {
    qemu.once('error', (error) => resolve(error.message));
    qemu.once('close', (code, by) => resolve(by ?? `code ${code}`));
  });
  clearTimeout(deadline);
  clearInterval(watchdog);
  signal.removeEventListener('abort', kill);

  // The watchdog may act while the guest powers off. If there is an exit code, the command has ended, and that counts.
  const exitFile = path.join(share, 'exit-code');
  const exitCode = existsSync(exitFile) ? Number.parseInt(readFileSync(exitFile, 'utf8'), 10) : Number.NaN;
  if (Number.isInteger(exitCode))
    return { kind: 'ended', exitCode, bootMs: statSync(path.join(share, 'booted')).mtimeMs - startedMs };
  if (verdict) return verdict;
  // QEMU warns about each feature that the emulated processor lacks. These warnings are not the reason for its end.
  const errors = complaint.split('\n').filter((line) => line && !line.includes('warning:'));
  return { kind: 'froze', reason: [`QEMU ended (${ended}) before the command did`, ...errors].join(': ') };
}

/**
 * Gives QEMU a larger share of the processors. Other tests run beside the emulated host, and BoxLite's own timeouts are
 * short for an emulated processor. The kernel divides processors among sessions first, so the weight of QEMU's session
 * counts. This needs root. Without root, QEMU has the usual share.
 *
 * @param {number} pid of QEMU
 */
function preferEmulator(pid) {
  try {
    setPriority(pid, emulatorNice);
    writeFileSync(`/proc/${pid}/autogroup`, String(emulatorNice));
  } catch {
    // The user is not root, or the kernel does not group processes by session.
  }
}

/**
 * Calls `onStuck` when the console has been silent for limits.silenceMaxMs, or says that the guest is stuck.
 *
 * @param {string} consoleLog @param {(reason: string) => void} onStuck
 * @returns {NodeJS.Timeout}
 */
function watch(consoleLog, onStuck) {
  let readBytes = 0;
  let lastNewsMs = Date.now();
  return setInterval(() => {
    const text = readFrom(consoleLog, readBytes);
    if (text.length > 0) {
      readBytes += text.length;
      lastNewsMs = Date.now();
      const found = stuck.exec(text.toString('latin1'));
      if (found) onStuck(`its console says "${found[0]}"`);
    } else if (Date.now() - lastNewsMs > limits.silenceMaxMs) {
      onStuck(`nothing on its console for ${limits.silenceMaxMs / 1000} s`);
    }
  }, 1000);
}

/** @param {string} file @param {number} position @returns {Buffer} the bytes after the position. */
function readFrom(file, position) {
  const descriptor = openSync(file, 'r');
  try {
    const buffer = Buffer.alloc(Math.max(0, fstatSync(descriptor).size - position));
    return buffer.subarray(0, readSync(descriptor, buffer, 0, buffer.length, position));
  } finally {
    closeSync(descriptor);
  }
}
