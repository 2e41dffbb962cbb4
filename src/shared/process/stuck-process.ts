// Describes a process that does not die, for an error message: its state, where it sleeps in the kernel, its control
// group. It also lists zombies in pid namespaces, because the first process of a namespace cannot die before they are
// reaped. Facts that cannot be read are left out.
import { readdir, readFile } from 'node:fs/promises';

/** Zombies that a description lists at most. */
const listedMax = 10;

/** One line, such as `state D (disk sleep), name cat, parent 12 (sh, S), wchan io_schedule, control group /a/b`. */
export async function describeStuck(pid: number): Promise<string> {
  const status = await statusOf(pid);
  if (status === null) return 'it is gone by now';
  const [wchan, cgroup, zombies] = await Promise.all([
    readQuietly(`/proc/${pid}/wchan`),
    readQuietly(`/proc/${pid}/cgroup`),
    zombiesInNamespaces(),
  ]);
  return [
    `state ${status.state}`,
    `name ${status.name}`,
    `parent ${await parentOf(status)}`,
    `wchan ${wchan.trim() || 'unknown'}`,
    `control group ${groupsIn(cgroup)}`,
    `zombies in pid namespaces: ${zombies.join(', ') || 'none'}`,
  ].join(', ');
}

interface Status {
  readonly name: string;
  readonly state: string;
  readonly parent: number;
  /** Number of nested pid namespaces that contain the process. It is 1 if only the host's namespace does. */
  readonly depth: number;
}

async function statusOf(pid: number): Promise<Status | null> {
  const text = await readQuietly(`/proc/${pid}/status`);
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
  if (text === '') return null;
  return {
    name: field('Name'),
    state: field('State'),
    parent: Number(field('PPid')),
    depth: field('NSpid').split(/\s+/).length,
  };
}

async function parentOf({ parent }: Status): Promise<string> {
  const status = await statusOf(parent);
  return status === null ? `${parent}` : `${parent} (${status.name}, ${status.state.slice(0, 1)})`;
}

async function zombiesInNamespaces(): Promise<string[]> {
  const listed: string[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || listed.length === listedMax) continue;
    const status = await statusOf(Number(name));
    if (status === null || status.depth < 2 || !/^[ZX]/.test(status.state)) continue;
    listed.push(`${name} (${status.name}) of parent ${await parentOf(status)}`);
  }
  return listed;
}

/** The group of cgroup version 2, and of version 1 the freezer's: a process in a frozen group cannot die. */
function groupsIn(text: string): string {
  const lines = text.split('\n').filter((line) => line.startsWith('0::') || line.includes(':freezer:'));
  return lines.join(' ') || 'unknown';
}

async function readQuietly(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
