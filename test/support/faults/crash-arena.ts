// A real server for tests that make faults. It has two boxes. The witness runs a command whose output shows whether
// something was lost. Scenarios act on the subject. The quota has room for exactly these two, so a name or quota that a
// fault has leaked prevents the next subject.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FaultPoint } from '../../../src/shared/faults/fault-points.ts';
import { killQuietly } from '../../../src/shared/process/child-process.ts';
import { makeMarkedHome } from '../../../src/shared/host/host-marks.ts';
import { newId } from '../../../src/shared/ids.ts';
import { statePaths } from '../../../src/shared/settings/state-dir.ts';
import { openReader } from '../../../src/shared/store/reader.ts';
import { BoxRunError, type Box, type BoxRunClient, type Exec } from '../../../src/sdk/index.ts';
import { collect, startCrashServer, type Collected, type CrashServer } from '../servers/crash-server.ts';
import { expectIntegrity, expectConsistentHost, instanceIdOf } from '../host/host-state.ts';
import { eventually } from '../runs/eventually.ts';
import { processesOf, type Role } from '../host/processes.ts';

export const targets = ['supervisor', 'gateway', 'writer', 'worker', 'engine', 'keeper'] as const;
export type Target = (typeof targets)[number];

const cpus = { witness: 1, subject: 3 };
const reachMs = 30_000;
/** The bound for everything that happens after a fault. It is longer than all deadlines of the server. */
export const settledWithinMs = 150_000;

/** The reasons with which a command may end when its worker or its engine has died. */
const lossReasons =
  /may be missing|box ended|the box was (stopped|removed)|exit code 137|was ended by|could not be started/;

export interface Witnessing {
  /** Ends the command and checks its output. @throws when the output is incomplete without a reason */
  conclude(): Promise<void>;
}

export interface Hit {
  readonly pid: number;
  /** The box of a worker or an engine. */
  readonly boxId: string | null;
}

export class Arena {
  readonly #faultDir: string;
  readonly server: CrashServer;
  witnessId = '';

  private constructor(server: CrashServer, faultDir: string) {
    this.server = server;
    this.#faultDir = faultDir;
  }

  static async open(): Promise<Arena> {
    const faultDir = mkdtempSync(join(tmpdir(), 'boxrun-faults-'));
    const env = {
      BOXRUN_FAULT_DIR: faultDir,
      BOXRUN_RECONCILE_MS: '500',
      BOXRUN_MAX_CPU: String(cpus.witness + cpus.subject),
    };
    const server = await startCrashServer({ args: ['--workers', '1'], env });
    const arena = new Arena(server, faultDir);
    arena.witnessId = (
      await server.client.create({ image: 'base', name: 'witness', cpu: cpus.witness, memory_mb: 64, disk_size_gb: 1 })
    ).id;
    await arena.makeSubject();
    return arena;
  }

  get client(): BoxRunClient {
    return this.server.client;
  }

  makeSubject(): Promise<Box> {
    return this.client.create({ image: 'base', name: 'subject', cpu: cpus.subject, memory_mb: 64, disk_size_gb: 1 });
  }

  /** Makes the home of a box that is not in the database, but with the mark of this database. Returns the id. */
  plantStray(): string {
    const boxId = newId('box');
    const home = join(this.server.stateDir, 'boxes', boxId);
    makeMarkedHome(home, { instanceId: instanceIdOf(this.server.stateDir), driver: 'container' });
    writeFileSync(join(home, 'disk.img'), 'disk');
    return boxId;
  }

  homes(): string[] {
    return readdirSync(join(this.server.stateDir, 'boxes'));
  }

  /** Counts the disks in the lost directory. */
  keptDisks(): number {
    const { lostDir } = statePaths(this.server.stateDir);
    return existsSync(lostDir)
      ? readdirSync(lostDir).filter((name) => existsSync(join(lostDir, name, 'disk.img'))).length
      : 0;
  }

  /** Reads the state of a box from the database, because clients do not see every state. */
  stateOf(boxId: string): string | null {
    const reader = openReader(join(this.server.stateDir, 'boxrun.db'));
    try {
      return reader.boxRows().find(({ id }) => id === boxId)?.state ?? null;
    } finally {
      reader.close();
    }
  }

  run(cmd: string[], signal?: AbortSignal) {
    const input = { image: 'base', cmd, cpu: cpus.subject, memory_mb: 64, disk_size_gb: 1 };
    return this.client.run(input, signal === undefined ? {} : { signal });
  }

  async subject(): Promise<Box | null> {
    return (await this.client.listBoxes()).find(({ name }) => name === 'subject') ?? null;
  }

  arm(point: FaultPoint): void {
    rmSync(this.#faultDir, { recursive: true });
    mkdirSync(this.#faultDir);
    writeFileSync(join(this.#faultDir, `${point}.armed`), '');
  }

  /** Waits until a process is held at the point. Returns its pid. */
  reached(point: FaultPoint): Promise<number> {
    return eventually(
      `${point} is reached`,
      async () => {
        const prefix = `${point}.reached.`;
        const name = readdirSync(this.#faultDir).find((entry) => entry.startsWith(prefix));
        return name !== undefined && Number(name.slice(prefix.length));
      },
      reachMs,
    );
  }

  release(point: FaultPoint): void {
    writeFileSync(join(this.#faultDir, `${point}.go`), '');
  }

  /** Releases the held process. From now on no process is held at the point. */
  disarm(point: FaultPoint): void {
    rmSync(join(this.#faultDir, `${point}.armed`), { force: true });
    this.release(point);
  }

  /**
   * Finds the process to hit: the held one if it is of that kind, otherwise that of the subject, otherwise that of the
   * witness. Null if there is none.
   */
  async find(target: Target, held: number): Promise<Hit | null> {
    const found = await processesOf(this.server.stateDir);
    const own = found.find(({ pid }) => pid === held);
    if (own?.role === target) return { pid: held, boxId: own.box };
    if (target === 'engine') return this.#engine();
    const ofRole = found.filter(({ role, box }) => role === target && box !== 'spare');
    const one = ofRole.find(({ box }) => box !== this.witnessId) ?? ofRole[0];
    return one === undefined ? null : { pid: one.pid, boxId: one.box };
  }

  #engine(): Hit | null {
    const boxesDir = join(this.server.stateDir, 'boxes');
    const ids = readdirSync(boxesDir).sort((one) => (one === this.witnessId ? 1 : -1));
    for (const boxId of ids) {
      const pid = Number(readQuietly(join(boxesDir, boxId, 'run', 'init.pid')).trim());
      // Checks the control group, because the pid may belong to another process by now.
      if (pid > 0 && readQuietly(`/proc/${pid}/cgroup`).includes(boxId)) return { pid, boxId };
    }
    return null;
  }

  async pidOf(role: Role, box?: string): Promise<number> {
    return eventually(
      `there is a ${role}`,
      async () =>
        (await processesOf(this.server.stateDir)).find(
          (entry) => entry.role === role && (box === undefined || entry.box === box),
        )?.pid,
    );
  }

  async freezeWriter(): Promise<void> {
    for (const { role, pid } of await processesOf(this.server.stateDir))
      if (role === 'writer') killQuietly(pid, 'SIGSTOP');
  }

  async isAlive(pid: number): Promise<boolean> {
    return (await processesOf(this.server.stateDir)).some((entry) => entry.pid === pid);
  }

  spills(): number {
    return readdirSync(statePaths(this.server.stateDir).spillDir).filter((name) => name.endsWith('.spill')).length;
  }

  async isServing(): Promise<boolean> {
    return (await processesOf(this.server.stateDir)).some(({ role }) => role === 'keeper');
  }

  /**
   * Waits for the end of supervisor and gateway, and starts the next `serve`. Returns how long that `serve` took to
   * answer, in ms.
   */
  async serveAgain(): Promise<number> {
    await eventually(
      'supervisor and gateway are gone',
      async () => (await processesOf(this.server.stateDir)).every(({ role }) => role === 'worker' || role === 'writer'),
      30_000,
    );
    const startedAt = performance.now();
    await this.server.serve();
    return performance.now() - startedAt;
  }

  /** True when the server answers requests and, if `canExec`, starts a command in the witness. */
  async answers(canExec: boolean): Promise<boolean> {
    try {
      await this.client.listBoxes();
      if (canExec) await this.client.startExec('witness', { cmd: ['true'] });
      return true;
    } catch (error) {
      if (error instanceof BoxRunError && ['UNAVAILABLE', 'TIMEOUT'].includes(error.code)) return false;
      throw error;
    }
  }

  /** Starts a command in the witness that prints numbered lines until the file /root/stop exists. */
  async witness(): Promise<Witnessing> {
    const exec = await this.client.startExec('witness', {
      cmd: [
        'sh',
        '-c',
        `
      rm -f /root/stop; i=0
      while [ ! -e /root/stop ]; do echo line-$i; i=$((i+1)); [ $((i%10)) = 0 ] && sleep 0.05; done; echo end-$i`,
      ],
    });
    const output = collectPatiently(this.client, exec);
    output.catch(() => undefined);
    return {
      conclude: async () => {
        if ((await this.client.getExec('witness', exec.id)).status === 'running') {
          await this.client.startExec('witness', { cmd: ['touch', '/root/stop'] });
        }
        expectWhole(await inTime(output, 'the witness ends'), /^end-(\d+)$/);
      },
    };
  }

  /**
   * Waits until every box has the state that the server reports. Then expects that the witness has its whole output, or
   * an exit with a reason for the loss.
   */
  async expectSettled(isHit: (boxId: string) => boolean, witnessing: Witnessing): Promise<void> {
    let boxes: Box[] = [];
    await eventually(
      'every box has the reported state',
      async () => {
        await expectConsistentHost(this.server.stateDir, () => this.client.listBoxes());
        boxes = await this.client.listBoxes();
        return this.#haveReportedState(boxes);
      },
      settledWithinMs,
    );
    const witness = boxes.find(({ id }) => id === this.witnessId);
    if (witness === undefined) throw new Error('the witness is gone');
    if (witness.status !== 'running' && !isHit(witness.id)) throw new Error(`the witness is ${witness.status}`);
    if (witness.status !== 'running') await this.client.startBox('witness');
    await witnessing.conclude();
  }

  async renew(): Promise<void> {
    for (const box of await this.client.listBoxes()) {
      if (box.id !== this.witnessId) await this.client.removeBox(box.id, { force: true });
    }
    await this.makeSubject();
    await expectConsistentHost(this.server.stateDir, () => this.client.listBoxes());
  }

  /**
   * Whether every box that the server calls running runs a command. False if one does not yet: the server notices the
   * end of an engine only a moment later.
   */
  async #haveReportedState(boxes: readonly Box[]): Promise<boolean> {
    try {
      for (const box of boxes) if (box.status === 'running') await this.#expectRuns(box);
      return true;
    } catch (error) {
      if (error instanceof BoxRunError && ['UNAVAILABLE', 'BOX_NOT_RUNNING'].includes(error.code)) return false;
      throw error;
    }
  }

  async #expectRuns(box: Box): Promise<void> {
    const exec = await this.client.startExec(box.id, { cmd: ['echo', 'here'] });
    const { stdout, exit } = await inTime(collectPatiently(this.client, exec), `${box.id} runs a command`);
    // An exit code other than 0 means that the box ended meanwhile. The next look sees that.
    if (stdout !== 'here\n' && exit.exitCode === 0) throw new Error(`${box.id} runs and does not answer: ${stdout}`);
  }

  async close(): Promise<void> {
    expectIntegrity(this.server.stateDir);
    await this.server.close();
    rmSync(this.#faultDir, { recursive: true, force: true });
  }

  async killAll(): Promise<void> {
    await this.server.killAll();
    rmSync(this.#faultDir, { recursive: true, force: true });
  }
}

/** Reads all events of a command. Begins again if the server was away for longer than the stream of the SDK waits. */
export async function collectPatiently(client: BoxRunClient, exec: Pick<Exec, 'id' | 'box_id'>): Promise<Collected> {
  const deadline = Date.now() + settledWithinMs;
  for (;;) {
    try {
      return await collect(client, exec);
    } catch (error) {
      const away = error instanceof BoxRunError && error.code === 'UNAVAILABLE';
      if (!away || Date.now() > deadline) throw error;
    }
  }
}

/** Waits for something that must happen by itself. @throws after `settledWithinMs`, with `what` in the error */
export async function inTime<T>(work: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`does not happen: ${what}`));
    }, settledWithinMs);
  });
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
  }
}

/** Expects numbered lines from 0 without a gap. The last line must be `end-N`, or the exit must have a reason. */
export function expectWhole({ stdout, exit }: Collected, end: RegExp): void {
  const lines = stdout.split('\n');
  const rest = lines.pop() ?? '';
  const last = end.exec(lines.at(-1) ?? '');
  const printed = last === null ? lines : lines.slice(0, -1);
  const wrong = printed.findIndex((line, index) => line !== `line-${index}`);
  if (wrong >= 0) throw new Error(`line ${wrong} of the output is '${printed[wrong]}'`);
  if (last !== null && rest === '') {
    if (Number(last[1]) !== printed.length) throw new Error(`${last[0]} comes after ${printed.length} lines`);
    if (exit.exitCode === 0) return;
  }
  const reason = exit.error ?? `exit code ${exit.exitCode}`;
  if (!lossReasons.test(reason)) throw new Error(`the output ends after ${printed.length} lines: ${reason}`);
}

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
