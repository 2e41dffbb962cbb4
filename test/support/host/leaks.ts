// Finds everything that a box has left on the host: processes, mounts in any mount namespace, loop devices and control
// groups, and its home directory if that is given. It works for every engine, because it only needs the id and the home
// directory of the box.
import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface LeakScope {
  readonly boxId: string;
  readonly homeDir?: string;
  readonly instanceId?: string;
}

/** The kernel frees mount namespaces and loop devices a moment after the last process has ended. */
const settleMs = 3_000;
const pollMs = 20;

/** @throws with a list of everything that is still left of the box after `settleMs` */
export async function expectNoLeaks(scope: LeakScope): Promise<void> {
  const deadline = Date.now() + settleMs;
  for (;;) {
    const left = findLeaks(scope);
    if (left.length === 0) return;
    if (Date.now() > deadline) throw new Error(`left of ${scope.boxId}:\n  ${left.join('\n  ')}`);
    await delay(pollMs);
  }
}

/** Returns one line for each thing that is left. */
export function findLeaks({ boxId, homeDir, instanceId }: LeakScope): string[] {
  const words = [boxId, ...(homeDir === undefined ? [] : [homeDir])];
  const groups = [boxId, ...(instanceId === undefined ? [] : [`boxrun-${instanceId.replace(/^inst_/, '')}`])];
  return [
    ...leakedProcesses(words),
    ...leakedMounts(words),
    ...leakedLoops(words),
    ...leakedCgroups('/sys/fs/cgroup', groups, 4),
    ...(homeDir !== undefined && existsSync(homeDir) ? [`directory ${homeDir}`] : []),
  ];
}

function leakedProcesses(words: readonly string[]): string[] {
  return pids()
    .filter((pid) => pid !== process.pid)
    .filter((pid) => ['environ', 'cmdline', 'cgroup'].some((file) => mentions(read(`/proc/${pid}/${file}`), words)))
    .map((pid) => `process ${pid}: ${read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').slice(0, 200)}`);
}

function leakedMounts(words: readonly string[]): string[] {
  const seen = new Set<string>();
  const found: string[] = [];
  for (const pid of pids()) {
    const namespace = link(`/proc/${pid}/ns/mnt`);
    if (namespace === null || seen.has(namespace)) continue;
    seen.add(namespace);
    const lines = read(`/proc/${pid}/mountinfo`).split('\n');
    found.push(...lines.filter((line) => mentions(line, words)).map((line) => `mount seen by ${pid}: ${line}`));
  }
  return found;
}

function leakedLoops(words: readonly string[]): string[] {
  return list('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .map((name) => ({ name, file: read(join('/sys/block', name, 'loop', 'backing_file')) }))
    .filter(({ file }) => mentions(file, words))
    .map(({ name, file }) => `loop device ${name}: ${file.trim()}`);
}

function leakedCgroups(dir: string, names: readonly string[], depth: number): string[] {
  if (depth === 0) return [];
  return readdirQuietly(dir).flatMap((name) => {
    const path = join(dir, name);
    return names.includes(name) ? [`control group ${path}`] : leakedCgroups(path, names, depth - 1);
  });
}

function readdirQuietly(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}

function mentions(text: string, words: readonly string[]): boolean {
  return words.some((word) => text.includes(word));
}

function pids(): number[] {
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function link(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
