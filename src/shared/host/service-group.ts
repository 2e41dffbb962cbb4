// How a process leaves the control group in which `serve` was started. systemd, and whatever else runs services, ends a
// service by its group: what shall outlive the server (writer, workers, and so the processes of boxes) must be in
// another one. systemd looks at its named hierarchy on version 1, and at version 2 otherwise; on a hybrid host both
// count. So they do here.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { startFilter } from '../process/child-process.ts';
import { settledWithin, sleep } from '../waiting/clock.ts';
import { BoxRunError, errorText } from '../errors.ts';
import { limits } from '../limits.ts';
import { hasSystemd, startScope, type SystemdOwner } from './systemd.ts';

const root = '/sys/fs/cgroup';
const pollMs = 5;

/** The hierarchies by which a service is ended. */
const hierarchies = ['systemd', 'unified'] as const;
type Hierarchy = (typeof hierarchies)[number];
export type Groups = Readonly<Partial<Record<Hierarchy, string>>>;

/** The paths of a process in those hierarchies, from /proc/PID/cgroup (cgroups(7)); pure. */
export function parseGroups(text: string): Groups {
  const groups: Partial<Record<Hierarchy, string>> = {};
  for (const line of text.split('\n')) {
    const [, controllers, path = '/'] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === 'name=systemd') groups.systemd = path;
    if (controllers === '') groups.unified = path;
  }
  return groups;
}

function groupsOf(pid: number | 'self'): Groups {
  try {
    return parseGroups(readFileSync(`/proc/${pid}/cgroup`, 'utf8'));
  } catch {
    return {}; // It is gone, or there are no control groups.
  }
}

/**
 * The groups with which somebody could end a process of the groups `own`; pure. The top of a hierarchy is none, nor is
 * a place that cannot be seen from here. The group of process 1 is none either: with it the whole host ends, or the
 * container in which the server runs.
 */
export function endableGroups(own: Groups, ofProcess1: Groups): Groups {
  const found: Partial<Record<Hierarchy, string>> = {};
  for (const name of hierarchies) {
    const path = own[name];
    if (path === undefined || path === '/' || path.startsWith('/..') || path === ofProcess1[name]) continue;
    const unit = unitAbove(path);
    found[name] = isWithin(ofProcess1[name], unit) ? path : unit;
  }
  return found;
}

/** A unit's group may have others below it, which end with it. The systemd of a user is no unit in this sense. */
function unitAbove(path: string): string {
  const parts = path.split('/');
  const at = parts.findLastIndex((part) => /\.(service|scope)$/.test(part) && !part.startsWith('user@'));
  return at < 0 ? path : parts.slice(0, at + 1).join('/');
}

/** What is so of a server, and of a process that it has started to outlive it. */
export type Standing =
  /** Nobody can end the server by its group. */
  | 'not needed'
  | 'apart'
  /** Whoever ends the server's group ends that process too. */
  | 'together';

export function standingOf(pid: number): Standing {
  const own = endableGroups(groupsOf('self'), groupsOf(1));
  if (Object.keys(own).length === 0) return 'not needed';
  const other = groupsOf(pid);
  return isInAny(other, own) ? 'together' : 'apart';
}

function isInAny(groups: Groups, others: Groups): boolean {
  return hierarchies.some((name) => isWithin(groups[name], others[name]));
}

function isWithin(path: string | undefined, group: string | undefined): boolean {
  if (group === undefined) return false;
  return path === group || path?.startsWith(`${group}/`) === true;
}

export interface OwnUnit {
  readonly owner: SystemdOwner;
  /** Null for a process that is in no service. */
  readonly unit: string | null;
  /** The slice of that unit. */
  readonly slice: string | null;
}

/** The unit that a server is, and the systemd that has it, by its group; pure. */
export function unitOf(groups: Groups, uid: number): OwnUnit {
  const path = unitAbove(groups.unified ?? groups.systemd ?? '/');
  const [name = '', parent = ''] = path.split('/').reverse();
  const isService = name.endsWith('.service');
  // Outside of a service, only the systemd of a user makes a scope for that user.
  const owner = path.includes(`/user@${uid}.service/`) || (uid !== 0 && !isService) ? 'user' : 'system';
  if (!isService) return { owner, unit: null, slice: null };
  return { owner, unit: name, slice: parent.endsWith('.slice') ? parent : null };
}

/** The same of this process. */
export function ownUnit(): OwnUnit {
  return unitOf(groupsOf('self'), process.getuid?.() ?? 0);
}

interface LeaveOptions {
  /** Names its scope, where it gets one. */
  readonly name: string;
  readonly stateDir: string;
  readonly pid?: number;
}

/**
 * Moves a process, before it has children, out of the control group that it shares with the server: into a scope of its
 * own where systemd makes one, else into a group beside the server's. Gives where it is; null where nothing was to do.
 * @throws RUNTIME_ERROR saying why it stays where it is
 */
export async function leaveServiceGroup({ name, stateDir, pid = process.pid }: LeaveOptions): Promise<string | null> {
  const groups = endableGroups(groupsOf(pid), groupsOf(1));
  if (Object.keys(groups).length === 0) return null;
  const refusals: string[] = [];
  if (hasSystemd()) {
    const unit = `boxrun-${name}.scope`;
    try {
      await moveToScope(unit, groups, { stateDir, pid });
      return unit;
    } catch (error) {
      refusals.push(errorText(error));
    }
  }
  try {
    for (const [hierarchy, path] of Object.entries(groups)) enter(groupBeside(hierarchy, path, stateDir), pid);
    return groupName(stateDir);
  } catch (error) {
    refusals.push(errorText(error));
  }
  throw new BoxRunError('RUNTIME_ERROR', `the control group cannot be left: ${refusals.join('; ')}`);
}

async function moveToScope(
  unit: string,
  groups: Groups,
  { stateDir, pid }: { readonly stateDir: string; readonly pid: number },
): Promise<void> {
  const { owner, unit: service, slice } = unitOf(groups, process.getuid?.() ?? 0);
  await startScope({ owner, unit, slice, endsAfter: service, description: `BoxRun, state in ${stateDir}` }, pid);
  const deadline = performance.now() + limits.systemdAnswerMs;
  for (;;) {
    if (!isInAny(groupsOf(pid), groups)) return;
    if (performance.now() > deadline) throw new BoxRunError('TIMEOUT', `systemd does not move process ${pid}`);
    await sleep(pollMs);
  }
}

/** One group for all that a server leaves there. */
function groupName(stateDir: string): string {
  return `boxrun-server-${createHash('sha256').update(stateDir).digest('hex').slice(0, 12)}`;
}

/** The directory of a group beside `path`: so what the groups above both ask for goes on to hold. */
function groupBeside(hierarchy: string, path: string, stateDir: string): string {
  return join(topOf(hierarchy), dirname(path), groupName(stateDir));
}

function topOf(hierarchy: string): string {
  // Where version 2 alone is mounted, its top is the top of all.
  if (hierarchy === 'unified' && existsSync(join(root, 'cgroup.controllers'))) return root;
  return join(root, hierarchy);
}

const joinAttemptsMax = 3;

function enter(directory: string, pid: number): void {
  for (let attempt = 1; ; attempt += 1) {
    try {
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, 'cgroup.procs'), String(pid));
      return;
    } catch (error) {
      // A server that ends may remove it, as empty, between the two steps.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt >= joinAttemptsMax) throw error;
    }
  }
}

/**
 * Removes the groups that this state directory has beside those of servers, if nothing is in them any more. An earlier
 * server may have been elsewhere, so they are looked for everywhere.
 */
export function removeEmptyGroups(stateDir: string): void {
  const name = groupName(stateDir);
  for (const hierarchy of Object.keys(endableGroups(groupsOf('self'), groupsOf(1)))) {
    for (const directory of groupsBelow(topOf(hierarchy))) {
      if (basename(directory) === name) tryRemove(directory);
    }
  }
}

function groupsBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .flatMap((entry) => [join(directory, entry.name), ...groupsBelow(join(directory, entry.name))]);
  } catch {
    return []; // It is gone, or closed to this user.
  }
}

function tryRemove(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // A box that runs on is in it.
  }
}

/**
 * Tries to leave, with a process that does nothing else. Gives where it was; null where there is nothing to leave.
 * @throws RUNTIME_ERROR saying why that cannot be done
 */
export async function tryToLeave(stateDir: string): Promise<string | null> {
  const trial = startFilter('cat', []);
  try {
    trial.on('error', () => undefined);
    return await leaveServiceGroup({ name: `trial-${trial.pid}`, stateDir, ...(trial.pid ? { pid: trial.pid } : {}) });
  } finally {
    const ended = new Promise((resolve) => trial.once('exit', resolve));
    trial.stdin.end();
    await settledWithin(ended, limits.systemdAnswerMs);
    removeEmptyGroups(stateDir);
  }
}
