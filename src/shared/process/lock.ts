// A lock file that dies with its process: flock(2) on a descriptor that stays open here and is closed on exec by
// default. One for the keeper of a state directory, one for the writer of a database.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

export interface FileLock {
  release(): void;
}

const conflictExitCode = 75;

/**
 * Takes the lock at `path` without waiting; null when another process holds it.
 * The lock belongs to the open file, which flock(1) shares with us only while it sets it.
 */
export async function tryLock(path: string): Promise<FileLock | null> {
  // A plain descriptor: a FileHandle would be closed, and the lock lost, when nobody refers to it any more.
  const fd = openSync(path, 'a', 0o600);
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    const child = spawn('flock', ['--exclusive', '--nonblock', '--conflict-exit-code', String(conflictExitCode), '3'], {
      stdio: ['ignore', 'ignore', 'ignore', fd],
    });
    child.once('error', reject);
    child.once('exit', resolve);
  });
  if (exitCode === 0)
    return {
      release: () => {
        closeSync(fd);
      },
    };
  closeSync(fd);
  if (exitCode === conflictExitCode) return null;
  throw new Error(`flock(1) failed on ${path} with exit code ${exitCode}`);
}
