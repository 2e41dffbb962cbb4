// What the kernel says of a process that does not die: its state, where it sleeps, its control group. Dead processes
// that nobody has collected keep the first process of their pid namespace from dying, so they are told as well, with
// their parents. Read when something has gone wrong already: whatever cannot be read is left out.
import { readdir, readFile } from 'node:fs/promises';

/** Dead processes that are told of at most. */
const toldMax = 10;

/** In one line: `state D (disk sleep), name cat, parent 12 (sh, S), wchan io_schedule, control group /a/b`. */
export async function describeStuck(pid: number): Promise<string> {
  const status = await statusOf(pid);
  if (status === null) return 'it is gone by now';
  const [wchan, cgroup, uncollected] = await Promise.all([
    readQuietly(`/proc/${pid}/wchan`),
    readQuietly(`/proc/${pid}/cgroup`),
    uncollectedProcesses(),
  ]);
  return [
    `state ${status.state}`,
    `name ${status.name}`,
    `parent ${await parentOf(status)}`,
    `wchan ${wchan.trim() || 'unknown'}`,
    `control group ${groupsIn(cgroup)}`,
    `dead and not collected in namespaces: ${uncollected.join(', ') || 'none'}`,
  ].join(', ');
}

interface Status {
  readonly name: string;
  readonly state: string;
  readonly parent: number;
  /** Pid namespaces that it is in; 1 for those of the host alone. */
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

async function uncollectedProcesses(): Promise<string[]> {
  const told: string[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || told.length === toldMax) continue;
    const status = await statusOf(Number(name));
    if (status === null || status.depth < 2 || !/^[ZX]/.test(status.state)) continue;
    told.push(`${name} (${status.name}) of parent ${await parentOf(status)}`);
  }
  return told;
}

/** Of version 1 the freezer's, in which a process cannot die; with its state. */
function groupsIn(text: string): string {
  const lines = text.split('\n').filter((line) => line.startsWith('0::') || line.includes(':freezer:'));
  return lines.join(' ') || 'unknown';
}

async function readQuietly(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
