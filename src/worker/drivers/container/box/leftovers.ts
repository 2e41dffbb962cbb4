// Kills all processes of a box on this host, for moments in which no record can be trusted: after a failed start, after
// the death of a worker, on removal. It finds the processes in the box's control groups, and by their mark in the
// environment those outside (monitor, runtime, slirp4netns).
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { killQuietly } from '../../../../shared/process/child-process.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import type { BoxCgroups } from '../host/cgroups.ts';

const pollMs = 3;

/**
 * @param timeoutMs in milliseconds
 * @throws TIMEOUT when a process is still alive after `timeoutMs`
 */
export async function killLeftovers(homeDir: string, cgroups: BoxCgroups, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const marked = markedProcesses(homeDir);
    for (const pid of marked) killQuietly(pid, 'SIGKILL');
    // The marked processes are killed first: a runtime among them could still put a process into the groups.
    await cgroups.killAll(Math.max(1, deadline - Date.now()));
    if (marked.length === 0) return;
    if (Date.now() > deadline)
      throw new BoxRunError('TIMEOUT', `processes of ${homeDir} did not die: ${marked.join(' ')}`);
    await delay(pollMs);
  }
}

/** Pids of the processes on this host that have the mark of this home. */
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
