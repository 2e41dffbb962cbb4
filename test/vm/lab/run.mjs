// The command line of the VM lab. It runs the tests of micro-VMs: directly if KVM boots one, else in an emulated host.
//   node test/vm/lab/run.mjs [vitest arguments]
//   node test/vm/lab/run.mjs --shell-script FILE [arguments]    runs a script instead of the tests
// Exit code: that of vitest or the script; 124 after the deadline; 75 when the emulated host failed three times; 1 when
// the lab could not be built; 128 + n after a signal. See README.md.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, homedir } from 'node:os';
import path from 'node:path';
import { LabError, lock } from './command.mjs';
import { startHost } from './emulator.mjs';
import { openHost } from './host-image.mjs';
import { probeKvm } from './probe.mjs';
import { makeProjectDisk, openModulesDisk } from './project-disk.mjs';
import { limits } from './recipe.mjs';

const project = path.resolve(import.meta.dirname, '../../..');
const startedMs = Date.now();
let isMidLine = false;
/** @param {Buffer} chunk of the guest's output */
const printOutput = (chunk) => {
  isMidLine = chunk.at(-1) !== 0x0a;
  process.stdout.write(chunk);
};
/** @param {string} text */
const say = (text) => {
  console.log(`${isMidLine ? '\n' : ''}vm-lab: ${text}`);
  isMidLine = false;
};
const secondsSoFar = () => ((Date.now() - startedMs) / 1000).toFixed(1);

/**
 * @typedef {object} Plan the command to run
 * @property {string | undefined} foreignScript a script from outside the tree, which is copied into it
 * @property {(shared: string) => string[]} command makes the command of Node or sh; `shared` is the folder for results
 */

/** @param {string[]} argv @returns {Plan} */
function planFor(argv) {
  if (argv[0] === '--shell-script') {
    const [, file, ...rest] = argv;
    if (!file || !existsSync(file)) throw new LabError(`--shell-script: no such file: ${file ?? '(none given)'}`);
    const inside = path.relative(project, path.resolve(file));
    const isForeign = inside.startsWith('..');
    const interpreter = /\.[cm]?js$/.test(file) ? 'node' : 'sh';
    return {
      foreignScript: isForeign ? path.resolve(file) : undefined,
      command: () => [interpreter, `./${isForeign ? path.basename(file) : inside}`, ...rest],
    };
  }
  const args = argv[0] === '--' ? argv.slice(1) : argv;
  const reporters = (/** @type {string} */ shared) => [
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${shared}/vitest.json`,
  ];
  return {
    foreignScript: undefined,
    command: (shared) => [
      'node',
      'node_modules/vitest/vitest.mjs',
      'run',
      ...(args.includes('--project') ? [] : ['--project', 'vm']),
      ...reporters(shared),
      ...args,
    ],
  };
}

/** @param {string} cacheFolder @returns {Promise<boolean>} true to run on this machine without the emulated host. */
async function decideDirect(cacheFolder) {
  const wish = process.env.BOXRUN_VM_LAB ?? '';
  if (wish === 'direct') return true;
  if (wish === 'force') return false;
  const { boots, reason } = await probeKvm(cacheFolder);
  say(
    boots ? 'KVM boots VMs here: running directly' : `KVM boots no VM here (${reason}): running in the emulated host`,
  );
  return boots;
}

/** @param {NodeJS.Signals} name @returns {number} the exit code a shell gives a process ended by a signal. */
const signalCode = (name) => 128 + constants.signals[name];

/** @param {Plan} plan @param {string} runFolder @param {AbortSignal} signal @returns {Promise<number>} */
async function runDirectly(plan, runFolder, signal) {
  const [program, ...args] = plan.command(runFolder);
  const target = plan.foreignScript ? [plan.foreignScript, ...args.slice(1)] : args;
  const env = { ...process.env, BOXRUN_LAB_SHARE: runFolder };
  const child = spawn(program === 'sh' ? 'sh' : process.execPath, target, { cwd: project, stdio: 'inherit', env });
  signal.addEventListener('abort', () => child.kill('SIGTERM'));
  const [code, by] = await once(child, 'exit');
  return code ?? signalCode(by);
}

/**
 * @param {Plan} plan @param {string} cacheFolder @param {string} runFolder @param {AbortSignal} signal
 * @returns {Promise<{exitCode: number, timing: string}>}
 */
async function runEmulated(plan, cacheFolder, runFolder, signal) {
  const host = openHost(cacheFolder, say);
  const disks = [makeProjectDisk(project, runFolder, plan.foreignScript), openModulesDisk(project, cacheFolder)];
  say(`disks ready after ${secondsSoFar()} s`);
  const share = path.join(runFolder, 'share');
  const endMs = Date.now() + Number(process.env.BOXRUN_LAB_DEADLINE_S ?? limits.deadlineDefaultMs / 1000) * 1000;

  // The build blocks the event loop. A signal that came meanwhile is handled in the next turn.
  await new Promise((resolve) => setImmediate(resolve));
  for (let start = 1; start <= limits.startsMax; start += 1) {
    if (signal.aborted) return { exitCode: signalCode(signal.reason), timing: 'interrupted' };
    rmSync(share, { recursive: true, force: true });
    mkdirSync(share);
    copyFileSync(path.join(import.meta.dirname, 'guest', 'main.sh'), path.join(share, 'main.sh'));
    writeFileSync(path.join(share, 'command'), commandFile(plan.command('/share')));
    const outcome = await startHost(host, {
      disks,
      share,
      consoleLog: path.join(runFolder, `console-${start}.log`),
      deadlineMs: endMs - Date.now(),
      onOutput: printOutput,
      signal,
    });
    if (signal.aborted) return { exitCode: signalCode(signal.reason), timing: 'interrupted' };
    if (outcome.kind === 'ended')
      return { exitCode: outcome.exitCode, timing: `boot ${(outcome.bootMs / 1000).toFixed(1)} s` };
    if (outcome.kind === 'late') return { exitCode: 124, timing: 'the deadline was reached (BOXRUN_LAB_DEADLINE_S)' };
    say(`the emulated host failed: ${outcome.reason} (start ${start} of ${limits.startsMax})`);
  }
  return { exitCode: 75, timing: `the emulated host failed ${limits.startsMax} times; see ${runFolder}` };
}

/** @param {string[]} words @returns {string} a shell script */
function commandFile(words) {
  const quoted = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const colour = process.stdout.isTTY ? 'FORCE_COLOR=1' : 'NO_COLOR=1';
  // All processes share one emulated processor, so a process may wait long before it runs.
  return `export BOXRUN_IN_LAB=1 BOXRUN_LAB_SHARE=/share BOXRUN_SILENCE_MS=60000 CI=1 ${colour}\nexec ${quoted}\n`;
}

/** @param {string | undefined} report @returns {string} the counts of vitest's report; empty without a report. */
function summary(report) {
  if (!report) return '';
  const {
    numPassedTests: passed,
    numFailedTests: failed,
    numPendingTests: skipped,
  } = JSON.parse(readFileSync(report, 'utf8'));
  return `${passed} passed, ${failed} failed, ${skipped} skipped, `;
}

async function main() {
  const plan = planFor(process.argv.slice(2));
  const cacheFolder =
    process.env.BOXRUN_LAB_CACHE ??
    path.join(process.env.XDG_CACHE_HOME ?? path.join(homedir(), '.cache'), 'boxrun', 'vm-lab');
  mkdirSync(cacheFolder, { recursive: true });
  const stop = new AbortController();
  for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(name, () => stop.abort(name));

  // Only one run at a time: BoxLite's timeouts are short for an emulated processor that shares the machine with
  // another.
  const held = await lock(path.join(cacheFolder, 'lock'), () => say('another run has the lab; waiting for it'));
  const runFolder = path.join(cacheFolder, 'last-run');
  rmSync(runFolder, { recursive: true, force: true });
  mkdirSync(runFolder);
  const result = (await decideDirect(cacheFolder))
    ? { exitCode: await runDirectly(plan, runFolder, stop.signal), timing: 'direct' }
    : await runEmulated(plan, cacheFolder, runFolder, stop.signal);
  rmSync(path.join(runFolder, 'project.img'), { force: true });
  const report = [runFolder, path.join(runFolder, 'share')]
    .map((folder) => path.join(folder, 'vitest.json'))
    .find((file) => existsSync(file));
  if (report && process.env.BOXRUN_LAB_REPORT) copyFileSync(report, process.env.BOXRUN_LAB_REPORT);
  say(`${summary(report)}exit ${result.exitCode}, ${result.timing}, ${secondsSoFar()} s in all`);
  held.release();
  process.exitCode = result.exitCode;
}

main().catch((error) => {
  console.error(error instanceof LabError ? `vm-lab: ${error.message}` : error);
  process.exit(1);
});
