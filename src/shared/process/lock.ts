// A lock on a file by flock(2). The kernel releases it when this process dies, because the lock belongs to a file
// descriptor that stays open in this process and that its children do not inherit.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

export interface FileLock {
  release(): void;
}

const conflictExitCode = 75;

/**
 * Takes the lock at `path` without waiting. Returns null if another process holds it.
 * Node has no flock(2), so flock(1) sets the lock on the open file that it shares with this process.
 */
export async function tryLock(path: string): Promise<FileLock | null> {
  // A plain descriptor: Node closes a FileHandle when nothing refers to it any more, and the lock would be lost.
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
