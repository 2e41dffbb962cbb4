// Makes a control group for one test, in the hierarchies that systemd uses for services. It can end the group as
// systemd does, systemd.kill(5), KillMode=control-group: SIGTERM to each process in it, then SIGKILL to the remaining
// ones.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { killQuietly } from '../../../src/shared/process/child-process.ts';
import { eventually } from '../runs/eventually.ts';

const root = '/sys/fs/cgroup';
const hierarchies = existsSync(join(root, 'cgroup.controllers'))
  ? [root]
  : ['systemd', 'unified'].map((name) => join(root, name)).filter((path) => existsSync(join(path, 'cgroup.procs')));

/** Where version 2 of control groups is mounted. Undefined: this host has only version 1. */
export const version2 = hierarchies.find((path) => path === root || path.endsWith('/unified'));

let count = 0;

export interface OwnGroup {
  /** The path of the group, relative to each hierarchy. */
  readonly path: string;
  /** A program and its arguments. A command that is appended to them runs in the group. */
  readonly launcher: readonly string[];
  pids(): number[];
  /** Sends SIGTERM, then SIGKILL after `graceMs` milliseconds. Resolves when the group is empty. */
  endLikeSystemd(graceMs: number): Promise<void>;
  /**
   * Removes the group, its parent and the empty groups beside it. A worker that ends a moment after its server leaves
   * such an empty group behind.
   */
  remove(): Promise<void>;
}

export function makeGroup(): OwnGroup {
  const path = `boxrun-test-${process.pid}-${++count}/service`;
  const directories = hierarchies.map((hierarchy) => join(hierarchy, path));
  for (const directory of directories) mkdirSync(directory, { recursive: true });
  const enter = directories.map((directory) => `echo $$ >${join(directory, 'cgroup.procs')}`).join(' && ');
  const pids = () => [...new Set(directories.flatMap(pidsBelow))];
  return {
    path,
    launcher: ['sh', '-c', `${enter} && exec "$@"`, 'launcher'],
    pids,
    async endLikeSystemd(graceMs) {
      for (const pid of pids()) killQuietly(pid, 'SIGTERM');
      await eventually('the group is empty', async () => pids().length === 0, graceMs).catch(() => undefined);
      for (const directory of directories) {
        if (existsSync(join(directory, 'cgroup.kill'))) writeFileSync(join(directory, 'cgroup.kill'), '1');
      }
      for (const pid of pids()) killQuietly(pid, 'SIGKILL');
      await eventually('everything in the group is dead', async () => pids().length === 0);
    },
    async remove() {
      await eventually('the group is removed', async () =>
        directories.map((each) => tryRemove(dirname(each))).every(Boolean),
      );
    },
  };
}

function pidsBelow(directory: string): number[] {
  const own = readFileSync(join(directory, 'cgroup.procs'), 'utf8')
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0);
  const below = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...own, ...below.flatMap(({ name }) => pidsBelow(join(directory, name)))];
}

function tryRemove(directory: string): boolean {
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) tryRemove(join(directory, entry.name));
    }
    rmdirSync(directory);
  } catch {
    // The group is not empty.
  }
  return !existsSync(directory);
}
