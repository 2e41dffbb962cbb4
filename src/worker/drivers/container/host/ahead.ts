// FIFOs that a spare worker makes before it has a box. Node has no call to make a FIFO, and another program takes time.
// Each FIFO is taken once, by a rename. If one is missing, the box makes its own.
import { chmod, mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun } from './tools.ts';

const makeTimeoutMs = 10_000;
/**
 * Enough for the first commands of a box; then the agent takes over, or pipes.ts makes more. More would cost time,
 * because each FIFO is a file that must be removed again.
 */
const pipeCount = 16;

export function aheadPaths(dir: string) {
  return { alive: join(dir, 'alive'), pipes: join(dir, 'pipes') };
}

/** Makes the directory `dir` with the FIFOs. @throws RUNTIME_ERROR, TIMEOUT */
export async function makeFifosAhead(dir: string): Promise<void> {
  const { alive, pipes } = aheadPaths(dir);
  await mkdir(pipes, { recursive: true, mode: 0o700 });
  const names = Array.from({ length: pipeCount }, (_, index) => join(pipes, `ahead-${index}`));
  await mustRun('mkfifo', ['-m', '666', alive, ...names], { timeoutMs: makeTimeoutMs });
  await chmod(alive, 0o600); // Only the worker and the monitor open it; the pipes are for every user of the box.
}

/** Moves what was made ahead to its place. Returns false if it does not exist, or is on another file system. */
export async function takeAhead(from: string, to: string): Promise<boolean> {
  return rename(from, to).then(
    () => true,
    () => false,
  );
}
