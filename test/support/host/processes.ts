// The processes of one server, found from outside: whatever has a file of its state directory open and calls itself
// boxrun.
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export type Role = 'keeper' | 'supervisor' | 'gateway' | 'writer' | 'worker';

export interface FoundProcess {
  readonly pid: number;
  readonly role: Role;
  /** Of a worker: its box, or 'spare'. */
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
    return { pid, role: role as Role, box: box ?? null };
  } catch {
    return null; // It ended while we looked.
  }
}

/** The one process of a role, or the worker of a box. */
export async function processOf(stateDir: string, role: Role, box?: string): Promise<FoundProcess> {
  const matching = (await processesOf(stateDir)).filter(
    (entry) => entry.role === role && (box === undefined || entry.box === box),
  );
  if (matching.length !== 1) throw new Error(`${matching.length} processes are ${role} ${box ?? ''}`);
  return matching[0] as FoundProcess;
}

/** From now on `peakMemoryMb` tells of what comes after (clear_refs of proc(5)). */
export async function forgetPeaks(stateDir: string): Promise<void> {
  for (const { pid } of await processesOf(stateDir))
    await writeFile(`/proc/${pid}/clear_refs`, '5').catch(() => undefined);
}

/** The most resident memory that each process of a server has had so far, in MB, by role (and box). */
export async function peakMemoryMb(stateDir: string): Promise<Record<string, number>> {
  const peaks: Record<string, number> = {};
  for (const { pid, role, box } of await processesOf(stateDir)) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
    if (kilobytes !== undefined) peaks[box === null ? role : `${role} ${box}`] = Math.round(Number(kilobytes) / 1024);
  }
  return peaks;
}
