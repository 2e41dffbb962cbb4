// Running programs for the lab: one call that waits and throws with the program's own words, and
// a machine-wide lock. Used by every building step; nothing here knows what is being built.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

/** Root's programs are not on every user's PATH. */
const searchPath = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`;

/** A failure whose message is meant for the person at the terminal, without a stack. */
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
 * @returns {boolean} whether the program is on the PATH or in the places root's programs live.
 */
export function isInstalled(program) {
  return (
    spawnSync('sh', ['-c', 'command -v "$0"', program], { env: { ...process.env, PATH: searchPath } }).status === 0
  );
}

/**
 * Waits for an exclusive lock on a file and holds it until `release()` or the end of this process,
 * however it ends: the holder's input closes with us, and the kernel drops the lock with the holder.
 *
 * @param {string} file
 * @param {() => void} onWaiting called once if somebody else has it.
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
