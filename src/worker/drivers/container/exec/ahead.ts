// FIFOs that a worker makes before it has a box, for whichever it gets: Node has no call for that, and another program
// takes its time. Filled by driver.ts; taken by renaming, once each, in boot.ts and pipes.ts, which make what is not
// there.
import { chmod, mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun } from '../host/tools.ts';

const makeTimeoutMs = 10_000;
/**
 * As many as the first commands of a box need, until the runner takes over; pipes.ts makes more. Each is a file to be
 * removed again.
 */
const pipeCount = 16;

export function aheadPaths(dir: string) {
  return { alive: join(dir, 'alive'), pipes: join(dir, 'pipes') };
}

/** Fills `dir`, which it makes. @throws RUNTIME_ERROR, TIMEOUT */
export async function makeFifosAhead(dir: string): Promise<void> {
  const { alive, pipes } = aheadPaths(dir);
  await mkdir(pipes, { recursive: true, mode: 0o700 });
  const names = Array.from({ length: pipeCount }, (_, index) => join(pipes, `ahead-${index}`));
  await mustRun('mkfifo', ['-m', '666', alive, ...names], { timeoutMs: makeTimeoutMs });
  await chmod(alive, 0o600); // Unlike a command's pipes: it is the worker's and the monitor's alone.
}

/** False where it is not there, or on another file system. */
export async function takeAhead(from: string, to: string): Promise<boolean> {
  return rename(from, to).then(
    () => true,
    () => false,
  );
}
