// The control groups of one box, version 1 (also hybrid) or 2: the box's own group, and in it one group per command. To
// kill a command means to kill everything in its group. A group that could be removed has no process, and never gets
// one again, even if a process still has one of its files open. So killing has no race.
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
  /** Makes the box's groups before the runtime starts, so that no other box removes the parent group as empty. */
  prepare(): void;
  /**
   * Makes the group of a command. Returns the path of a file: the command's first process, which
   * must have one thread, joins by writing 0 to it.
   * @param ownerId the host's id of the user and group who may write to the file; root if it is absent
   */
  addExec(execId: string, ownerId?: number): string;
  /** The directory that has the groups of the commands. */
  readonly execsDir: string;
  /** Ids of the commands that have a group. */
  execIds(): string[];
  /** Removes a command's group if it has no process. Returns true if the group does not exist any more. */
  tryRemoveExec(execId: string): boolean;
  /** Kills everything in a command's group until the group can be removed. @throws TIMEOUT after `timeoutMs` */
  killExec(execId: string, timeoutMs: number): Promise<void>;
  /** Pids of all processes of the box, or of one command. */
  pids(execId?: string): number[];
  /**
   * Thaws all processes. In version 1 a frozen process takes no signal, not even KILL. If a worker was killed while it
   * killed a command, processes may still be frozen.
   */
  thaw(): void;
  /** Kills all processes of the box and removes its groups. @throws TIMEOUT after `timeoutMs` */
  killAll(timeoutMs: number): Promise<void>;
  /** Removes the parent group if this was its last box. */
  removeParent(): void;
  usage(): CgroupUsage;
  /** How many processes of the box the kernel has killed because memory ran out. */
  oomKills(): number;
  /** How long processes of the box have waited because the box had used its share of the CPUs. */
  throttledSeconds(): number;
}

/** True if only the unified hierarchy (version 2) is mounted. */
export function isUnified(): boolean {
  return existsSync(join(root, 'cgroup.controllers'));
}

/** @param names paths below the top of each hierarchy */
export function createBoxCgroups(names: { parent: string; box: string }): BoxCgroups {
  const unified = isUnified();
  const hierarchies = unified ? [root] : legacyHierarchies();
  // Killing uses one hierarchy. In version 1 it must be the freezer, so that no process can fork meanwhile.
  const killing = join(unified ? root : join(root, 'freezer'), names.box);
  const boxDirs = hierarchies.map((hierarchy) => join(hierarchy, names.box));
  // On a hybrid host runc puts boxes into the unified hierarchy, too, but crun does not. The driver only removes groups
  // there.
  const onlyRemoved = unified ? [] : [join(root, 'unified')];
  const controller = (name: string) => join(unified ? root : join(root, name), names.box);

  let isBoxGroupWritable = false;

  const tryRemoveExec = (execId: string) => tryRemoveTree(join(killing, execId));

  return {
    prepare() {
      for (const dir of boxDirs) makeDirectory(dir);
    },
    addExec(execId, ownerId) {
      const dir = join(killing, execId);
      mkdirSync(dir);
      const procs = join(dir, 'cgroup.procs');
      // A process that has only one thread may join by `tasks` of version 1. Then the kernel does not stop the forks of
      // the whole host, for which it waits 6 ms after a while without such moves.
      const joining = unified ? procs : join(dir, 'tasks');
      if (ownerId === undefined) return joining;
      // The agent of an earlier version joins by cgroup.procs in any case.
      for (const file of new Set([joining, procs])) chownSync(file, ownerId, ownerId);
      if (unified && !isBoxGroupWritable) {
        // In version 2 a process that moves itself needs write access to the group above both groups, too.
        chownSync(join(killing, 'cgroup.procs'), ownerId, ownerId);
        isBoxGroupWritable = true;
      }
      return joining;
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
          return [...boxDirs, ...onlyRemoved.map((dir) => join(dir, names.box))].map(tryRemoveTree).every(Boolean);
        },
        timeoutMs,
        `killing the processes of ${names.box}`,
      );
    },
    removeParent() {
      for (const hierarchy of [...hierarchies, ...onlyRemoved]) tryRemoveDirectory(join(hierarchy, names.parent));
    },
    usage: () => (unified ? unifiedUsage(controller('')) : legacyUsage(controller)),
    throttledSeconds: () => throttledSeconds(join(controller(unified ? '' : 'cpu'), 'cpu.stat')),
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
      // Between two steps of this call, the last other box may remove the empty parent group.
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
      .map(Number)
      .filter((pid) => pid > 0); // A process that is just ending can be listed as 0.
  } catch {
    return [];
  }
}

/** Kills once. Processes in the group cannot fork while their pids are read and killed. */
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

/** Tries at once, then at growing intervals: version 1 does not report that a group has become empty. */
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

/** Version 2 counts microseconds, version 1 nanoseconds. */
function throttledSeconds(path: string): number {
  const text = readQuietly(path);
  const micros = /^throttled_usec (\d+)/m.exec(text)?.[1];
  return micros === undefined ? Number(/^throttled_time (\d+)/m.exec(text)?.[1] ?? 0) / 1e9 : Number(micros) / 1e6;
}

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
