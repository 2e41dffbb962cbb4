// Ending whatever works for a box on this host, known or not: the processes in its control groups, and those outside
// that carry its mark in their environment (monitor, runtime, slirp4netns). Called where no record can be trusted:
// after a failed start, a dead worker, on removal.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { killQuietly } from '../../../../shared/process/child-process.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import type { BoxCgroups } from '../host/cgroups.ts';

const pollMs = 3;

/**
 * @throws TIMEOUT when something is still there after `timeoutMs`
 */
export async function endLeftovers(homeDir: string, cgroups: BoxCgroups, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const marked = markedProcesses(homeDir);
    for (const pid of marked) killQuietly(pid, 'SIGKILL');
    // After the marked ones: a runtime under way could still put a process into the groups.
    await cgroups.killAll(Math.max(1, deadline - Date.now()));
    if (marked.length === 0) return;
    if (Date.now() > deadline)
      throw new BoxRunError('TIMEOUT', `processes of ${homeDir} did not die: ${marked.join(' ')}`);
    await delay(pollMs);
  }
}

/** Pids of the processes on this host that carry the mark of this home. */
function markedProcesses(homeDir: string): number[] {
  const mark = Buffer.from(`${homeMark}=${homeDir}\0`);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => environment(name).includes(mark))
    .map(Number);
}

function environment(pid: string): Buffer {
  try {
    return readFileSync(`/proc/${pid}/environ`);
  } catch {
    return Buffer.alloc(0);
  }
}
