// Creates, uses and removes very many boxes on one server. After a fifth of the boxes and at the end it counts what the
// server holds: processes, descriptors, files, memory. No count may have grown, but memory may vary by a bound for
// noise. Only things of this server count, because others may run on the same machine.
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BoxRun, type BoxRunClient } from '../../../src/sdk/index.ts';
import { limits } from '../../../src/shared/limits.ts';
import { defaultSocket } from '../../../src/shared/settings/socket-place.ts';
import { startCrashServer, type CrashServer } from '../servers/crash-server.ts';
import {
  boxedProcesses,
  boxLoops,
  expectIntegrity,
  expectConsistentHost,
  instanceCgroups,
  instanceIdOf,
  markedProcesses,
} from '../host/host-state.ts';
import { processesOf } from '../host/processes.ts';

export interface SoakOptions {
  readonly boxes: number;
  readonly execs: number;
  readonly onProgress?: (line: string) => void;
}

/** Counts by name, in the order in which they are printed. */
type Holdings = Readonly<Record<string, number>>;

export interface SoakReport {
  readonly boxes: number;
  readonly execs: number;
  /** The counts after a fifth of the boxes. */
  readonly early: Holdings;
  /** The counts at the end. */
  readonly late: Holdings;
  /** A line for each count that has grown. */
  readonly grown: readonly string[];
  readonly seconds: number;
}

const clientsAtOnce = 4;
const longLived = ['keeper', 'supervisor', 'gateway', 'writer'] as const;
/**
 * The kernel frees mounts and control groups a moment after the last process has ended. Closed connections also go away
 * a moment later.
 */
const settleMs = 20_000;
const settlePauseMs = 500;

/**
 * Growth of memory below this is noise. V8 collects garbage only when its heap has grown by some share, so a process
 * without a leak varies by this much. A leak of 20 KB per box, or of 1 KB per command, adds up to more than this
 * between box 200 and box 1,000.
 */
const memoryNoiseMb = 16;
/**
 * The writer keeps recent state events, up to this bound. In a short soak this log is not full at the first count, so
 * the writer may still grow by this much. Each command makes two state events.
 */
const logFillsMb = limits.statesKeptCharsMax / 2 ** 20;
const logIsFullAfterCommands = limits.statesKeptMax / 2;
const memoryNoiseShare = 0.15;

export async function runSoak({ boxes, execs, onProgress = () => undefined }: SoakOptions): Promise<SoakReport> {
  const temporary = mkdtempSync(join(tmpdir(), 'boxrun-soak-'));
  const server = await startCrashServer({ args: ['--workers', '1'], env: { TMPDIR: temporary } });
  const startedAt = performance.now();
  try {
    const perBox = Math.ceil(execs / boxes);
    const early = Math.ceil(boxes / 5);
    await useBoxes(server, 0, early, perBox, onProgress);
    const before = await holdingsOf(server, temporary);
    await useBoxes(server, early, boxes, perBox, onProgress);
    const fillsLater = early * perBox < logIsFullAfterCommands;
    const wanted = fillsLater
      ? { ...before, [memoryOf('writer')]: (before[memoryOf('writer')] ?? 0) + logFillsMb }
      : before;
    const after = await holdingsOf(server, temporary, wanted);
    const seconds = Math.round((performance.now() - startedAt) / 1000);
    expectIntegrity(server.stateDir);
    await server.close();
    return { boxes, execs: perBox * boxes, early: before, late: after, grown: findGrowth(wanted, after), seconds };
  } catch (error) {
    await server.killAll();
    throw error;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Uses its own client, so that idle connections of a client do not count for the server. */
async function useBoxes(
  { stateDir }: CrashServer,
  from: number,
  to: number,
  execs: number,
  onProgress: (line: string) => void,
): Promise<void> {
  await using client = new BoxRun({ socketPath: defaultSocket(stateDir) });
  let next = from;
  let done = from;
  const startedAt = performance.now();
  const work = async () => {
    for (let index = next++; index < to; index = next++) {
      await useBox(client, index, execs);
      if (++done % Math.ceil(to / 10) === 0)
        onProgress(`${done} boxes, ${Math.round((performance.now() - startedAt) / 1000)} s`);
    }
  };
  await Promise.all(Array.from({ length: clientsAtOnce }, work));
}

/** Runs commands with short and longer output, failures and cancels in one box. Some boxes are also stopped. */
async function useBox(client: BoxRunClient, index: number, execs: number): Promise<void> {
  const box = await client.create({ image: 'base', name: `soak-${index}`, cpu: 1, memory_mb: 64, disk_size_gb: 1 });
  for (let count = 0; count < execs; count++) {
    if (count === Math.floor(execs / 2) && index % 10 === 0) {
      await client.stopBox(box.id);
      await client.startBox(box.id);
    }
    await useCommand(client, box.id, count);
  }
  if (index % 5 === 0) {
    await client.startExec(box.id, { cmd: ['sleep', '1000'] }); // The stop of the box ends it.
    await client.stopBox(box.id);
  }
  await client.removeBox(box.id, { force: true });
}

async function useCommand(client: BoxRunClient, box: string, count: number): Promise<void> {
  if (count % 10 === 7) {
    const exec = await client.startExec(box, { cmd: ['sleep', '1000'] });
    await client.cancelExec(box, exec.id);
    return;
  }
  const lines = count % 5 === 0 ? 500 : 1;
  const result = await client.exec(box, [
    'sh',
    '-c',
    `i=0; while [ $i -lt ${lines} ]; do echo line-${count}-$i; i=$((i+1)); done; exit ${count % 3}`,
  ]);
  const wanted = Array.from({ length: lines }, (_, line) => `line-${count}-${line}\n`).join('');
  if (result.stdout !== wanted || result.exitCode !== count % 3)
    throw new Error(`command ${count} of ${box} gave ${result.exitCode}, ${result.stdout.length} characters`);
}

/**
 * Waits until nothing is left of any box. Then counts until two counts in a row are the same (without memory), or, with
 * `wanted`, until no count is above it.
 */
async function holdingsOf(server: CrashServer, temporary: string, wanted?: Holdings): Promise<Holdings> {
  await expectConsistentHost(server.stateDir, () => server.client.listBoxes());
  const deadline = Date.now() + settleMs;
  for (let last: Holdings | null = null; ;) {
    const now = await countHoldings(server.stateDir, temporary);
    const isSettled =
      wanted === undefined ? last !== null && sameCounts(last, now) : findGrowth(wanted, now).length === 0;
    if (isSettled || Date.now() > deadline) return now;
    last = now;
    await new Promise((resolve) => setTimeout(resolve, settlePauseMs));
  }
}

const memoryOf = (role: string) => `memory of the ${role}, MB`;
const isMemory = (name: string) => name.endsWith(' MB');

function sameCounts(one: Holdings, other: Holdings): boolean {
  return Object.keys(one).every((name) => isMemory(name) || one[name] === other[name]);
}

function findGrowth(early: Holdings, late: Holdings): string[] {
  return Object.entries(late).flatMap(([name, value]) => {
    const before = early[name] ?? 0;
    const most = isMemory(name) ? before + Math.max(memoryNoiseMb, before * memoryNoiseShare) : before;
    return value > most ? [`${name}: ${before} → ${value}`] : [];
  });
}

async function countHoldings(stateDir: string, temporary: string): Promise<Holdings> {
  const found = await processesOf(stateDir);
  const groups = instanceCgroups(instanceIdOf(stateDir));
  const open = found.map(({ pid, role }) => ({ role, targets: descriptorsOf(pid) }));
  const perRole = (of: (targets: readonly string[]) => number, what: string) =>
    Object.fromEntries(
      longLived.map((role) => [
        `${what} of the ${role}`,
        open.filter((each) => each.role === role).reduce((sum, { targets }) => sum + of(targets), 0),
      ]),
    );
  return {
    processes: found.length,
    'processes of boxes': new Set([...markedProcesses(stateDir).keys(), ...boxedProcesses(stateDir)]).size,
    ...perRole((targets) => targets.length, 'descriptors'),
    ...perRole((targets) => targets.filter((target) => target.startsWith('socket:')).length, 'open sockets'),
    'sockets in the run directory': filesBelow(join(stateDir, 'run')).filter((path) => path.includes('.sock')).length,
    mounts: readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(stateDir)).length,
    'loop devices': boxLoops(stateDir).size,
    'control groups': groups.flatMap((group) => directoriesBelow(group)).length,
    'files in the state directory': filesBelow(stateDir).length,
    'temporary files': filesBelow(temporary).length,
    ...Object.fromEntries(
      longLived.map((role) => [memoryOf(role), memoryMb(found.find((each) => each.role === role)?.pid ?? 0)]),
    ),
  };
}

function descriptorsOf(pid: number): string[] {
  return namesIn(`/proc/${pid}/fd`).map((fd) => quietly(() => readlinkSync(`/proc/${pid}/fd/${fd}`), ''));
}

function memoryMb(pid: number): number {
  const [, kilobytes = '0'] =
    /^VmRSS:\s+(\d+) kB$/m.exec(quietly(() => readFileSync(`/proc/${pid}/status`, 'utf8'), '')) ?? [];
  return Math.round(Number(kilobytes) / 1024);
}

/** Lists everything below a directory that is not a directory itself. */
function filesBelow(directory: string): string[] {
  return namesIn(directory).flatMap((name) => {
    const path = join(directory, name);
    return isDirectory(path) ? filesBelow(path) : [path];
  });
}

function directoriesBelow(directory: string): string[] {
  return namesIn(directory)
    .map((name) => join(directory, name))
    .filter(isDirectory);
}

function isDirectory(path: string): boolean {
  return quietly(
    () =>
      statSync(path, { throwIfNoEntry: false })?.isDirectory() === true && quietly(() => readlinkSync(path), '') === '',
    false,
  );
}

function namesIn(directory: string): string[] {
  return quietly(() => readdirSync(directory), []);
}

function quietly<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

export function soakTable({ boxes, execs, early, late, grown, seconds }: SoakReport): string {
  const width = Math.max(...Object.keys(late).map((name) => name.length));
  const lines = Object.entries(late).map(
    ([name, value]) => `${name.padEnd(width)} ${String(early[name] ?? 0).padStart(8)} ${String(value).padStart(8)}`,
  );
  const head = `${''.padEnd(width)} ${`box ${Math.ceil(boxes / 5)}`.padStart(8)} ${`box ${boxes}`.padStart(8)}`;
  return `${[head, ...lines].join('\n')}\n${boxes} boxes, ${execs} commands, ${seconds} s: ${grown.length === 0 ? 'flat' : `not flat: ${grown.join('; ')}`}\n`;
}
