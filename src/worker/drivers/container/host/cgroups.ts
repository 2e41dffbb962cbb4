// Control groups, version 1 (also hybrid) and 2, behind one value: the groups of one box, and one group for each of its
// commands, by which the whole tree of a command is killed. Owned by the driver of that box. A group that could be
// removed holds no process and never will again, whoever still has it open: that is what makes killing free of races.
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BoxRunError } from '../../../../shared/errors.ts';
import { killQuietly } from '../../../../shared/process/child-process.ts';

const root = '/sys/fs/cgroup';
const pollFirstMs = 1;
const pollLongestMs = 20;
const mkdirAttemptsMax = 50;

interface CgroupUsage {
  readonly cpuSeconds: number;
  readonly memoryBytes: number;
}

export interface BoxCgroups {
  /** Makes the box's groups, so that the parent cannot vanish under a runtime that starts. */
  prepare(): void;
  /**
   * Makes the group of a command; returns the file to which its first process writes 0 to join, which belongs to
   * `ownerId` (root).
   */
  addExec(execId: string, ownerId?: number): string;
  /** The directory of those groups. */
  readonly execsDir: string;
  /** Commands that have a group. */
  execIds(): string[];
  /** Removes a command's group if nothing is in it; true when it is gone. */
  tryRemoveExec(execId: string): boolean;
  /** Kills everything in a command's group until the group can be removed. */
  killExec(execId: string, timeoutMs: number): Promise<void>;
  /** Pids of the whole box, or of one command. */
  pids(execId?: string): number[];
  /**
   * Lets processes go on that somebody has frozen: of version 1 of control groups they take no signal, not even KILL. A
   * worker that is killed while it kills a command leaves them so.
   */
  thaw(): void;
  /** Kills every process of the box until none is left, and removes its groups. */
  killAll(timeoutMs: number): Promise<void>;
  /** Removes the parent group if this was its last box. */
  removeParent(): void;
  usage(): CgroupUsage;
  /** Times the kernel killed a process of the box for want of memory. */
  oomKills(): number;
}

/** True where the unified hierarchy alone is mounted. */
export function isUnified(): boolean {
  return existsSync(join(root, 'cgroup.controllers'));
}

/** `names.parent` and `names.box` are paths below the top of each hierarchy. */
export function createBoxCgroups(names: { parent: string; box: string }): BoxCgroups {
  const unified = isUnified();
  const hierarchies = unified ? [root] : legacyHierarchies();
  // Killing works on one hierarchy; on version 1 it must be one that can stop processes from forking on.
  const killing = join(unified ? root : join(root, 'freezer'), names.box);
  const boxDirs = hierarchies.map((hierarchy) => join(hierarchy, names.box));
  // On a hybrid host runc puts boxes into the unified hierarchy as well, crun does not: there the driver only tidies
  // up.
  const beside = unified ? [] : [join(root, 'unified')];
  const controller = (name: string) => join(unified ? root : join(root, name), names.box);

  let isShared = false;

  const tryRemoveExec = (execId: string) => tryRemoveTree(join(killing, execId));

  return {
    prepare() {
      for (const dir of boxDirs) makeDirectory(dir);
    },
    addExec(execId, ownerId) {
      const dir = join(killing, execId);
      mkdirSync(dir);
      const procs = join(dir, 'cgroup.procs');
      if (ownerId === undefined) return procs;
      chownSync(procs, ownerId, ownerId);
      if (unified && !isShared) {
        // Who moves a process on version 2 needs the group above both places as well.
        chownSync(join(killing, 'cgroup.procs'), ownerId, ownerId);
        isShared = true;
      }
      return procs;
    },
    execsDir: killing,
    execIds: () => subgroups(killing),
    tryRemoveExec,
    async killExec(execId, timeoutMs) {
      const dir = join(killing, execId);
      await until(
        () => {
          if (tryRemoveTree(dir)) return true;
          killGroup(dir);
          return tryRemoveTree(dir);
        },
        timeoutMs,
        `killing the processes of ${execId}`,
      );
    },
    thaw() {
      thawBelow(killing);
    },
    pids: (execId) => pidsBelow(execId === undefined ? killing : join(killing, execId)),
    async killAll(timeoutMs) {
      await until(
        () => {
          for (const pid of pidsBelow(killing)) killQuietly(pid, 'SIGKILL');
          for (const dir of [killing, ...subgroups(killing).map((name) => join(killing, name))]) killGroup(dir);
          return [...boxDirs, ...beside.map((dir) => join(dir, names.box))].map(tryRemoveTree).every(Boolean);
        },
        timeoutMs,
        `killing the processes of ${names.box}`,
      );
    },
    removeParent() {
      for (const hierarchy of [...hierarchies, ...beside]) tryRemoveDirectory(join(hierarchy, names.parent));
    },
    usage: () => (unified ? unifiedUsage(controller('')) : legacyUsage(controller)),
    oomKills: () => oomKills(join(controller('memory'), unified ? 'memory.events' : 'memory.oom_control')),
  };
}

function legacyHierarchies(): string[] {
  return readdirSync(root)
    .map((name) => join(root, name))
    .filter((dir) => !dir.endsWith('/unified') && statSync(dir).isDirectory() && existsSync(join(dir, 'cgroup.procs')));
}

function makeDirectory(dir: string): void {
  for (let attempt = 1; ; attempt += 1) {
    try {
      mkdirSync(dir, { recursive: true });
      return;
    } catch (error) {
      // The parent may be removed, as empty, by the last other box between two steps of this call.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt >= mkdirAttemptsMax) throw error;
    }
  }
}

function subgroups(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}

function pidsBelow(dir: string): number[] {
  return [...pidsIn(dir), ...subgroups(dir).flatMap((name) => pidsBelow(join(dir, name)))];
}

function pidsIn(dir: string): number[] {
  try {
    return readFileSync(join(dir, 'cgroup.procs'), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map(Number);
  } catch {
    return [];
  }
}

/** One round: nothing in the group can fork while its pids are read and killed. */
function killGroup(dir: string): void {
  if (tryWrite(join(dir, 'cgroup.kill'), '1')) return;
  const unified = existsSync(join(dir, 'cgroup.freeze'));
  const freezer = join(dir, unified ? 'cgroup.freeze' : 'freezer.state');
  tryWrite(freezer, unified ? '1' : 'FROZEN');
  for (const pid of pidsIn(dir)) killQuietly(pid, 'SIGKILL');
  tryWrite(freezer, unified ? '0' : 'THAWED');
}

function thawBelow(dir: string): void {
  tryWrite(join(dir, 'freezer.state'), 'THAWED');
  for (const name of subgroups(dir)) thawBelow(join(dir, name));
}

function tryWrite(path: string, value: string): boolean {
  try {
    if (!existsSync(path)) return false;
    writeFileSync(path, value);
    return true;
  } catch {
    return false;
  }
}

function tryRemoveTree(dir: string): boolean {
  if (tryRemoveDirectory(dir)) return true;
  for (const name of subgroups(dir)) tryRemoveTree(join(dir, name));
  return tryRemoveDirectory(dir);
}

function tryRemoveDirectory(dir: string): boolean {
  try {
    rmdirSync(dir);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

/** Tries at once, then at growing intervals: control groups of version 1 tell nobody when they become empty. */
async function until(done: () => boolean, timeoutMs: number, what: string): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (let pauseMs = pollFirstMs; !done(); pauseMs = Math.min(pauseMs * 2, pollLongestMs)) {
    if (Date.now() > deadline) throw new BoxRunError('TIMEOUT', `${what} took longer than ${timeoutMs} ms`);
    await delay(pauseMs);
  }
}

function unifiedUsage(dir: string): CgroupUsage {
  const micros = Number(/^usage_usec (\d+)/m.exec(readQuietly(join(dir, 'cpu.stat')))?.[1] ?? 0);
  return { cpuSeconds: micros / 1e6, memoryBytes: Number(readQuietly(join(dir, 'memory.current'))) };
}

function legacyUsage(controller: (name: string) => string): CgroupUsage {
  const nanos = Number(readQuietly(join(controller('cpuacct'), 'cpuacct.usage')));
  return {
    cpuSeconds: nanos / 1e9,
    memoryBytes: Number(readQuietly(join(controller('memory'), 'memory.usage_in_bytes'))),
  };
}

function oomKills(path: string): number {
  return Number(/^oom_kill (\d+)/m.exec(readQuietly(path))?.[1] ?? 0);
}

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
