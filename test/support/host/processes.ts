// Finds the processes of one server through /proc. A process belongs to it if its title begins with `boxrun` and a file
// of the state directory is open in it.
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export type Role = 'keeper' | 'supervisor' | 'gateway' | 'writer' | 'worker';

export interface FoundProcess {
  readonly pid: number;
  readonly role: Role;
  /** The box of a worker, or 'spare'. Null for other roles. */
  readonly box: string | null;
}

export async function processesOf(stateDir: string): Promise<FoundProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map((pid) => inspect(pid, stateDir)));
  return found.filter((entry) => entry !== null);
}

async function inspect(pid: number, stateDir: string): Promise<FoundProcess | null> {
  try {
    const title = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ').trim();
    const [, role, box] = /^boxrun (keeper|supervisor|gateway|writer|worker)(?: (\S+))?/.exec(title) ?? [];
    if (role === undefined) return null;
    const fds = await readdir(`/proc/${pid}/fd`);
    const targets = await Promise.all(fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
    if (!targets.some((target) => target.startsWith(join(stateDir, '/')))) return null;
    // The title of every other role ends in the state directory.
    return { pid, role: role as Role, box: role === 'worker' ? (box ?? null) : null };
  } catch {
    return null; // The process has ended in the meantime.
  }
}

/** Finds the one process of a role, or the worker of a box. @throws when there is not exactly one */
export async function processOf(stateDir: string, role: Role, box?: string): Promise<FoundProcess> {
  const matching = (await processesOf(stateDir)).filter(
    (entry) => entry.role === role && (box === undefined || entry.box === box),
  );
  if (matching.length !== 1) throw new Error(`${matching.length} processes are ${role} ${box ?? ''}`);
  return matching[0] as FoundProcess;
}

/** Resets the peaks, so that `peakMemoryMb` reports only later ones (clear_refs in proc(5)). */
export async function resetPeaks(stateDir: string): Promise<void> {
  for (const { pid } of await processesOf(stateDir))
    await writeFile(`/proc/${pid}/clear_refs`, '5').catch(() => undefined);
}

/** Returns the peak of resident memory of each process of a server, in MB, by role (and box). */
export async function peakMemoryMb(stateDir: string): Promise<Record<string, number>> {
  const peaks: Record<string, number> = {};
  for (const { pid, role, box } of await processesOf(stateDir)) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
    if (kilobytes !== undefined) peaks[box === null ? role : `${role} ${box}`] = Math.round(Number(kilobytes) / 1024);
  }
  return peaks;
}
