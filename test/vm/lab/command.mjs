// Running programs for the lab: `run` waits for the end of a program and throws an error with its output. `lock` takes
// a lock that holds on the whole machine. Nothing here knows what the lab builds.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

/** The PATH of an ordinary user may lack the directories of root's programs. */
const searchPath = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`;

/** A failure whose message is for the user at the terminal. It is shown without a stack. */
export class LabError extends Error {}

/**
 * Runs a program to its end and returns its standard output.
 *
 * @param {string} program
 * @param {string[]} args
 * @param {{cwd?: string | undefined, env?: NodeJS.ProcessEnv, timeoutMs?: number}} [options]
 * @returns {string}
 * @throws {LabError} when it cannot start, fails or takes longer than `timeoutMs` (default 10 minutes).
 */
export function run(program, args, { cwd, env, timeoutMs = 600_000 } = {}) {
  const result = spawnSync(program, args, {
    cwd,
    env: { ...(env ?? process.env), PATH: searchPath },
    timeout: timeoutMs,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (result.error) throw new LabError(`${program}: ${result.error.message}`);
  if (result.status !== 0) {
    const said = `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-15).join('\n');
    throw new LabError(
      `${program} ${args.slice(0, 3).join(' ')} … ended with ${result.status ?? result.signal}:\n${said}`,
    );
  }
  return result.stdout;
}

/**
 * @param {string} program
 * @returns {boolean} true when the program is on the PATH or in the directories of root's programs.
 */
export function isInstalled(program) {
  return (
    spawnSync('sh', ['-c', 'command -v "$0"', program], { env: { ...process.env, PATH: searchPath } }).status === 0
  );
}

/**
 * Waits for an exclusive lock on a file. Holds it until `release()`, or until this process ends for any reason: then
 * the input of the child closes, the child ends, and the kernel releases its lock.
 * @param {string} file
 * @param {() => void} onWaiting called once if another process has the lock.
 * @returns {Promise<{release: () => void}>}
 */
export async function lock(file, onWaiting) {
  const holder = spawn('flock', [file, 'sh', '-c', 'echo held; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const notice = setTimeout(onWaiting, 500);
  const [first] = await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit'), once(holder, 'error')]);
  clearTimeout(notice);
  if (String(first).trim() !== 'held') throw new LabError(`could not lock ${file}`);
  return { release: () => holder.stdin.end() };
}
