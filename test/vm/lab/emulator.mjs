// One start of the emulated host: QEMU as a child that cannot outlive us, its guest's output passed
// on as it comes, and a watchdog on the guest's serial console. Called by run.mjs, which decides
// whether to start again; a command that ended with any exit code is never a reason for that.

import { spawn } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import path from 'node:path';
import { limits, qemuArguments } from './recipe.mjs';

/** From -20 to 19, lower is preferred. */
const emulatorNice = -10;

/** Words of a kernel whose emulated processor got stuck. */
const stuck = /soft lockup|self-detected stall|Kernel panic/;

/**
 * @typedef {{kind: "ended", exitCode: number, bootMs: number} | {kind: "froze", reason: string} | {kind: "late"}}
 * Outcome
 *   "froze" is a failure of the emulation, "late" one of the deadline.
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
  // The kernel kills QEMU when this process is gone, even by SIGKILL. Its input is a pipe that stays
  // open: at the end of input QEMU would take the guest's port for disconnected and drop its output.
  const qemu = spawn('setpriv', ['--pdeathsig', 'KILL', ...host.qemu, ...args], {
    env: host.qemuEnv,
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true, // A session of its own: see preferEmulator.
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

  // An exit code on the share outranks a watchdog that fired while the guest was powering off.
  const exitFile = path.join(share, 'exit-code');
  const exitCode = existsSync(exitFile) ? Number.parseInt(readFileSync(exitFile, 'utf8'), 10) : Number.NaN;
  if (Number.isInteger(exitCode))
    return { kind: 'ended', exitCode, bootMs: statSync(path.join(share, 'booted')).mtimeMs - startedMs };
  if (verdict) return verdict;
  // A warning for every feature that the emulated processor lacks is not why it ended.
  const errors = complaint.split('\n').filter((line) => line && !line.includes('warning:'));
  return { kind: 'froze', reason: [`QEMU ended (${ended}) before the command did`, ...errors].join(': ') };
}

/**
 * Other tests run beside the emulated host, and BoxLite's own times are tight for an emulated processor. The kernel
 * shares processors among sessions first, so the weight of QEMU's session counts. Needs root; without it the emulator
 * has a share like everybody else.
 *
 * @param {number} pid of QEMU
 */
function preferEmulator(pid) {
  try {
    setPriority(pid, emulatorNice);
    writeFileSync(`/proc/${pid}/autogroup`, String(emulatorNice));
  } catch {
    // Not root, or a kernel that does not group by session.
  }
}

/**
 * Calls `onStuck` when the console has had nothing new for too long or says that the guest is stuck.
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

/** @param {string} file @param {number} position @returns {Buffer} what the file has after a position. */
function readFrom(file, position) {
  const descriptor = openSync(file, 'r');
  try {
    const buffer = Buffer.alloc(Math.max(0, fstatSync(descriptor).size - position));
    return buffer.subarray(0, readSync(descriptor, buffer, 0, buffer.length, position));
  } finally {
    closeSync(descriptor);
  }
}
