// Moves a process out of the control group of the service that started the server. systemd ends a service by ending all
// processes of its group. The writer and each worker move themselves at their start. The processes of a box
// inherit the group of their worker, or get a group of the box.
// systemd uses its named hierarchy of cgroup version 1, or version 2. On a hybrid host both count, so both are checked.
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

/** The hierarchies that systemd uses to end a service. */
const hierarchies = ['systemd', 'unified'] as const;
type Hierarchy = (typeof hierarchies)[number];
export type Groups = Readonly<Partial<Record<Hierarchy, string>>>;

/** The groups of a process in these hierarchies. `text` is the content of /proc/PID/cgroup (cgroups(7)). */
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
    return {}; // The process has ended, or the host has no control groups.
  }
}

/**
 * The groups whose end would also end a process in the groups `own`. Three kinds of groups do not count: the top of a
 * hierarchy, a group outside of this process's cgroup namespace, and the group of process 1. If the group of process 1
 * ends, the whole host ends, or the container in which the server runs.
 */
export function endableGroups(own: Groups, ofProcess1: Groups): Groups {
  const found: Partial<Record<Hierarchy, string>> = {};
  for (const name of hierarchies) {
    const path = own[name];
    if (path === undefined || path === '/' || path.startsWith('/..') || path === ofProcess1[name]) continue;
    const unit = unitAbove(path);
    // If the unit contains process 1 too, only the group itself counts.
    found[name] = isWithin(ofProcess1[name], unit) ? path : unit;
  }
  return found;
}

/**
 * The group of the systemd unit that contains `path`, or `path` itself. A unit may have groups below its own, and they
 * end with it. The unit user@UID.service does not count, because it contains all services of a user.
 */
function unitAbove(path: string): string {
  const parts = path.split('/');
  const at = parts.findLastIndex((part) => /\.(service|scope)$/.test(part) && !part.startsWith('user@'));
  return at < 0 ? path : parts.slice(0, at + 1).join('/');
}

/** How the group of a server relates to the group of a process that must outlive it. */
export type Standing =
  /** The server is in no group that can be ended. */
  | 'not needed'
  /** The end of the server's group does not end that process. */
  | 'apart'
  /** The end of the server's group would end that process too. */
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
  /** The name of the service. Null: the process is in no service. */
  readonly unit: string | null;
  /** The slice of that service. */
  readonly slice: string | null;
}

/** The service that contains a process with these groups, and the systemd that it belongs to. */
export function unitOf(groups: Groups, uid: number): OwnUnit {
  const path = unitAbove(groups.unified ?? groups.systemd ?? '/');
  const [name = '', parent = ''] = path.split('/').reverse();
  const isService = name.endsWith('.service');
  // Outside of a service, a user other than root can get a scope only from the user's own systemd.
  const owner = path.includes(`/user@${uid}.service/`) || (uid !== 0 && !isService) ? 'user' : 'system';
  if (!isService) return { owner, unit: null, slice: null };
  return { owner, unit: name, slice: parent.endsWith('.slice') ? parent : null };
}

/** The service of this process; see `unitOf`. */
export function ownUnit(): OwnUnit {
  return unitOf(groupsOf('self'), process.getuid?.() ?? 0);
}

interface LeaveOptions {
  /** A part of the scope's name, if systemd makes a scope. */
  readonly name: string;
  readonly stateDir: string;
  readonly pid?: number;
}

/**
 * Moves a process out of the control group that it shares with the server. The process must have no children yet. It
 * gets a scope of its own if systemd makes one, else a group next to the server's.
 * @returns the name of the scope or group, or null if the process did not need to move
 * @throws RUNTIME_ERROR with the reasons why the process could not be moved
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
  throw new BoxRunError('RUNTIME_ERROR', `process ${pid} cannot move to another control group: ${refusals.join('; ')}`);
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

/** The name of the group for all processes that a server moves without systemd. */
function groupName(stateDir: string): string {
  return `boxrun-server-${createHash('sha256').update(stateDir).digest('hex').slice(0, 12)}`;
}

/** The directory of the group next to `path`. It has the same parent, so the limits of the groups above still hold. */
function groupBeside(hierarchy: string, path: string, stateDir: string): string {
  return join(topOf(hierarchy), dirname(path), groupName(stateDir));
}

function topOf(hierarchy: string): string {
  // If only version 2 is mounted, it is mounted at the root.
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
      // Another server that ends may remove the empty group between the two steps.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt >= joinAttemptsMax) throw error;
    }
  }
}

/**
 * Removes the groups that servers of this state directory have made, if they are empty. An earlier server may have been
 * in another service, so this looks for them in the whole hierarchy.
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
    return []; // The group is removed, or this user cannot read it.
  }
}

function tryRemove(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // The group is not empty: a box still runs in it.
  }
}

/**
 * Tests with a process of its own whether a process can leave the group of the server.
 * @returns the name of the scope or group, or null if processes do not need to move
 * @throws RUNTIME_ERROR with the reasons why that is not possible
 */
export async function testLeaving(stateDir: string): Promise<string | null> {
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
