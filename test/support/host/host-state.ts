// Compares the host with the answers of a server: processes, sockets, homes, control groups, loop devices, mounts,
// spills and the database. After every fault, each running box must have exactly one worker, and nothing may be left
// that no box needs. It does not notice that a running box lacks its home, control group or engine.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Box } from '../../../src/shared/api.ts';
import { eventually } from '../runs/eventually.ts';
import { processesOf } from './processes.ts';

/** The kernel and the last steps of a removal need some time. After this time a difference is an error. */
const settleMs = 20_000;
const settledStates = ['ready', 'stopped', 'failed'];

/**
 * Waits until the host fits the answers of the server.
 * @param listBoxes asks the server for its boxes
 * @throws with one line for each difference that is still there after `settleMs`
 */
export async function expectConsistentHost(stateDir: string, listBoxes: () => Promise<Box[]>): Promise<void> {
  let wrong: string[] = [];
  await eventually(
    'the host is consistent',
    async () => {
      wrong = await findDifferences(stateDir, listBoxes).catch((error: unknown) => [String(error)]);
      return wrong.length === 0;
    },
    settleMs,
  ).catch(() => {
    throw new Error(`the host and the server differ:\n  ${wrong.join('\n  ')}`);
  });
}

async function findDifferences(stateDir: string, listBoxes: () => Promise<Box[]>): Promise<string[]> {
  const boxes = await listBoxes();
  const all = new Set(boxes.map(({ id }) => id));
  const running = new Set(boxes.filter(({ status }) => status === 'running').map(({ id }) => id));
  const { wrong: wrongRows, instanceId } = rowProblems(join(stateDir, 'boxrun.db'), all);
  const unexpected = (what: string, found: Iterable<string>, expected: ReadonlySet<string>) =>
    [...found].filter((id) => !expected.has(id)).map((id) => `${what} of ${id}`);
  return [
    ...boxes
      .filter(({ status, error_message: message }) => status === 'error' && message === null)
      .map(({ id }) => `${id} is in error without a reason`),
    ...wrongRows,
    ...(await processProblems(stateDir, running)),
    ...unexpected('a home', readdirSync(join(stateDir, 'boxes')), all),
    ...unexpected('a process', markedProcesses(stateDir).values(), running),
    ...unexpected('a control group', boxCgroups(instanceId), running),
    ...unexpected('a loop device', boxLoops(stateDir), running),
    ...readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(stateDir))
      .map((line) => `mount ${line}`),
    ...readdirSync(join(stateDir, 'spill')).map((name) => `spill ${name}`),
  ];
}

function rowProblems(path: string, all: ReadonlySet<string>): { wrong: string[]; instanceId: string } {
  const db = new Database(path, { readonly: true });
  try {
    const rows = db.prepare('SELECT id, state FROM boxes').all() as { id: string; state: string }[];
    const runningInStoppedBox = db
      .prepare(
        `SELECT execs.id, boxes.state FROM execs JOIN boxes ON boxes.id = execs.box_id
      WHERE execs.status = 'running' AND boxes.state <> 'ready'`,
      )
      .all() as { id: string; state: string }[];
    const endless = db
      .prepare(
        `SELECT id FROM execs WHERE status <> 'running' AND NOT EXISTS
      (SELECT 1 FROM events WHERE exec_id = execs.id AND type = 'exit')`,
      )
      .pluck()
      .all() as string[];
    const doubled = db
      .prepare('SELECT exec_id FROM events GROUP BY exec_id, seq HAVING count(*) > 1')
      .pluck()
      .all() as string[];
    const gaps = db
      .prepare('SELECT exec_id FROM events GROUP BY exec_id HAVING count(*) <> max(seq) + 1')
      .pluck()
      .all() as string[];
    const lost = db
      .prepare('SELECT count(*) FROM events WHERE exec_id NOT IN (SELECT id FROM execs)')
      .pluck()
      .get() as number;
    return {
      instanceId: db.prepare(`SELECT value FROM meta WHERE key = 'instance_id'`).pluck().get() as string,
      wrong: [
        ...rows.filter(({ state }) => !settledStates.includes(state)).map(({ id, state }) => `${id} is ${state}`),
        ...rows.filter(({ id }) => !all.has(id)).map(({ id }) => `${id} is in the database and not in the list`),
        ...runningInStoppedBox.map(({ id, state }) => `${id} is running in a box that is ${state}`),
        ...endless.map((id) => `${id} has ended without an exit event`),
        ...doubled.map((id) => `${id} has an event twice`),
        ...gaps.map((id) => `${id} has a gap in its events`),
        ...(lost > 0 ? [`${lost} events of no command`] : []),
      ],
    };
  } finally {
    db.close();
  }
}

/** @throws when the database is damaged */
export function expectIntegrity(stateDir: string): void {
  const db = new Database(join(stateDir, 'boxrun.db'), { readonly: true });
  try {
    const said = db.pragma('integrity_check', { simple: true }) as string;
    if (said !== 'ok') throw new Error(`the database is damaged: ${said}`);
  } finally {
    db.close();
  }
}

async function processProblems(stateDir: string, running: ReadonlySet<string>): Promise<string[]> {
  const found = await processesOf(stateDir);
  const wrong: string[] = [];
  for (const role of ['keeper', 'supervisor', 'gateway', 'writer'] as const) {
    const count = found.filter((entry) => entry.role === role).length;
    if (count !== 1) wrong.push(`${count} processes are ${role}`);
  }
  const workers = found.filter(({ role }) => role === 'worker');
  const boxes = workers.map(({ box }) => box ?? '').filter((box) => box !== 'spare');
  for (const id of running)
    if (boxes.filter((box) => box === id).length !== 1) wrong.push(`not one worker of ${id}, which is running`);
  wrong.push(...boxes.filter((box) => !running.has(box)).map((box) => `a worker of ${box}`));
  const workersDir = join(stateDir, 'run', 'workers');
  const names = readdirSync(workersDir);
  const living = new Map<string, number>();
  for (const name of names.filter((entry) => entry.endsWith('.json'))) {
    const { workerId, pid } = JSON.parse(readFileSync(join(workersDir, name), 'utf8')) as {
      workerId: string;
      pid: number;
    };
    if (workers.some((entry) => entry.pid === pid)) living.set(workerId, pid);
  }
  wrong.push(...names.filter((name) => !living.has(name.split('.')[0] ?? '')).map((name) => `${name} of no worker`));
  wrong.push(
    ...workers
      .filter(({ pid }) => ![...living.values()].includes(pid))
      .map(({ pid }) => `worker ${pid} without a state file`),
  );
  const spares = workers.length - boxes.length;
  if (spares > 1) wrong.push(`${spares} spare workers`);
  return wrong;
}

/** Finds processes on the host whose environment names a box of this server. Returns the box ids by pid. */
export function markedProcesses(stateDir: string): Map<number, string> {
  const mark = `BOXRUN_BOX_HOME=${join(stateDir, 'boxes')}/`;
  const found = new Map<number, string>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const environment = quietly(() => readFileSync(`/proc/${pid}/environ`, 'latin1'), '');
    const at = environment.indexOf(mark);
    if (at >= 0) found.set(Number(pid), /^[^\0/]*/.exec(environment.slice(at + mark.length))?.[0] ?? '');
  }
  return found;
}

/** Finds the processes inside boxes. They have no mark, and they survive if only their monitor is killed. */
export function boxedProcesses(stateDir: string): number[] {
  const pidsBelow = (dir: string): number[] => [
    ...quietly(() => readFileSync(join(dir, 'cgroup.procs'), 'utf8'), '')
      .split('\n')
      .filter((line) => line !== '')
      .map(Number),
    ...subdirectories(dir).flatMap((name) => pidsBelow(join(dir, name))),
  ];
  return instanceCgroups(quietly(() => instanceIdOf(stateDir), 'inst_none')).flatMap(pidsBelow);
}

function boxCgroups(instanceId: string): Set<string> {
  return new Set(instanceCgroups(instanceId).flatMap(subdirectories));
}

/** Returns the paths of the control group of one database, one for each hierarchy. */
export function instanceCgroups(instanceId: string): string[] {
  const parent = `boxrun-${instanceId.replace(/^inst_/, '')}`;
  const tops = ['/sys/fs/cgroup', ...subdirectories('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name))];
  return tops.map((top) => join(top, parent));
}

export function instanceIdOf(stateDir: string): string {
  const db = new Database(join(stateDir, 'boxrun.db'), { readonly: true });
  try {
    return db.prepare(`SELECT value FROM meta WHERE key = 'instance_id'`).pluck().get() as string;
  } finally {
    db.close();
  }
}

function subdirectories(path: string): string[] {
  const entries = quietly(() => readdirSync(path, { withFileTypes: true }), []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

/** Returns the ids of boxes whose disk is on a loop device. */
export function boxLoops(stateDir: string): Set<string> {
  const files = readdirSync('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .map((name) => quietly(() => readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trim(), ''));
  const boxes = join(stateDir, 'boxes/');
  return new Set(
    files.filter((file) => file.startsWith(boxes)).map((file) => file.slice(boxes.length).split('/')[0] ?? ''),
  );
}

function quietly<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
