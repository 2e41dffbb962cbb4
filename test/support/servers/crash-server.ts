// A real server on a state directory of its own for tests that kill its processes: `boxrun serve` from dist/.
// Closing asserts that nothing of it is left: no process, VM, mount, socket, box directory.
import { copyFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { BoxRun, type BoxRunClient, type Exec, type ExitEvent } from '../../../src/sdk/index.ts';
import { killQuietly } from '../../../src/shared/process/child-process.ts';
import { probeFileOf } from '../../../src/shared/settings/state-dir.ts';
import { boxedProcesses, markedProcesses } from '../host/host-state.ts';
import { eventually } from '../runs/eventually.ts';
import { processesOf, processOf, type Role } from '../host/processes.ts';
import { startServing, type Serving } from './serving.ts';
import { cacheHome, seedState } from './state-seed.ts';

export interface CrashServer {
  readonly stateDir: string;
  readonly client: BoxRunClient;
  /** SIGKILL to one process; resolves when it is gone. */
  kill(role: Role, box?: string): Promise<void>;
  /** Starts `boxrun serve` again after the keeper was killed; resolves when it takes requests. */
  serve(): Promise<void>;
  /** What the present `serve` has printed. */
  said(): string;
  /** Ends `serve` in order, with SIGTERM. */
  end(): Promise<number | null>;
  /** Removes every box, ends the server, and asserts that nothing is left. */
  close(): Promise<void>;
  /**
   * After a failure: everything of this server is killed. Its state directory stays, for whoever looks into the
   * failure.
   */
  abandon(): Promise<void>;
}

export interface CrashServerOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** container when absent. */
  readonly driver?: 'boxlite' | 'container';
  /** A new one when absent. */
  readonly stateDir?: string;
  /** The file of the command line; that of dist/ when absent. It is looked for at each start. */
  readonly program?: string;
  /** A program and its arguments that become `serve`, asked for at each start; none when absent. */
  readonly launcher?: () => readonly string[];
}

export async function startCrashServer(options: CrashServerOptions = {}): Promise<CrashServer> {
  const stateDir = options.stateDir ?? (await mkdtemp(join(tmpdir(), 'boxrun-crash-')));
  const socketPath = join(stateDir, 'boxrun.sock');
  const client = new BoxRun({ socketPath });
  let serving: Serving | null = null;

  async function serve(): Promise<void> {
    serving = await startServing({
      program: options.program,
      launcher: options.launcher?.(),
      args: ['--driver', options.driver ?? 'container', '--port', '0', ...(options.args ?? [])],
      env: {
        ...process.env,
        XDG_CACHE_HOME: cacheHome,
        BOXRUN_STATE_DIR: stateDir,
        BOXRUN_MAX_CPU: '1000',
        BOXRUN_MAX_MEMORY_MB: '100000',
        ...options.env,
      },
      readyMs: 120_000,
      isReady: () => succeeds(client.info()),
    });
  }

  const end = async () => (await serving?.end()) ?? null;

  // The answer to whether VMs boot holds for this boot of the host: the next server need not find out again.
  const probe = join(tmpdir(), 'boxrun-probe-boxlite.json');
  const ownProbe = probeFileOf(stateDir, 'boxlite');
  if (options.driver === 'boxlite') await copyFile(probe, ownProbe).catch(() => undefined);
  else if (options.stateDir === undefined && options.program === undefined) await seedState(stateDir);
  await serve();
  if (options.driver === 'boxlite') await copyFile(ownProbe, probe).catch(() => undefined);
  return {
    stateDir,
    client,
    serve,
    end,
    said: () => serving?.said() ?? '',
    async kill(role, box) {
      const { pid } = await processOf(stateDir, role, box);
      process.kill(pid, 'SIGKILL');
      await eventually(`${role} ${pid} is gone`, async () => !(await isRunning(pid)));
    },
    async close() {
      for (const box of await client.listBoxes()) await client.removeBox(box.id, { force: true });
      const leftBoxes = await readdir(join(stateDir, 'boxes'));
      await end();
      await client.close();
      await eventually('every process of the server is gone', async () => (await processesOf(stateDir)).length === 0);
      const engines = await enginesOf(stateDir);
      const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
        .split('\n')
        .filter((line) => line.includes(stateDir));
      const sockets = await readdir(join(stateDir, 'run', 'workers'));
      await rm(stateDir, { recursive: true, force: true });
      expect({ leftBoxes, mounts, sockets, engines }).toEqual({ leftBoxes: [], mounts: [], sockets: [], engines: [] });
    },
    async abandon() {
      for (let round = 0; round < 3; round++) {
        for (const { pid } of await processesOf(stateDir)) killQuietly(pid, 'SIGKILL');
        for (const pid of markedProcesses(stateDir).keys()) killQuietly(pid, 'SIGKILL');
        for (const pid of boxedProcesses(stateDir)) killQuietly(pid, 'SIGKILL');
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      await client.close();
    },
  };
}

/** Command lines of whatever still works below the state directory: VMs, container monitors, image tools. */
async function enginesOf(stateDir: string): Promise<string[]> {
  const found = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const line = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ');
    if (line.includes(stateDir)) found.push(line);
  }
  return found;
}

const succeeds = (call: Promise<unknown>) =>
  call.then(
    () => true,
    () => false,
  );

async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return stat !== null && !/\) [ZX] /.test(stat);
}

export interface Collected {
  readonly stdout: string;
  readonly stderr: string;
  readonly seqs: readonly number[];
  readonly exit: ExitEvent;
}

/** Everything of an exec, over lost connections; asserts that seq starts at 0 and has no gap. */
export async function collect(client: BoxRunClient, exec: Pick<Exec, 'id' | 'box_id'>): Promise<Collected> {
  const pieces = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  const seqs: number[] = [];
  let exit: ExitEvent | null = null;
  for await (const event of client.execEvents(exec)) {
    seqs.push(event.seq);
    if (event.type === 'exit') exit = event;
    else pieces[event.stream].push(event.bytes);
  }
  expect(seqs).toEqual(seqs.map((_, index) => index));
  if (exit === null) throw new Error('the stream ended without an exit event');
  const text = (stream: 'stdout' | 'stderr') => Buffer.concat(pieces[stream]).toString('utf8');
  return { stdout: text('stdout'), stderr: text('stderr'), seqs, exit };
}

/** A command that prints `lines` numbered lines, with short pauses, so that it takes about `lines` / 1000 seconds. */
export function counting(lines: number): string[] {
  return [
    'sh',
    '-c',
    `i=0; while [ $i -lt ${lines} ]; do echo line-$i; i=$((i+1)); [ $((i%20)) = 0 ] && sleep 0.02; done`,
  ];
}

export function counted(lines: number): string {
  return Array.from({ length: lines }, (_, index) => `line-${index}\n`).join('');
}

/** For much text: says where two differ, not all that comes after. */
export function expectSameText(actual: string, expected: string): void {
  let at = 0;
  while (at < actual.length && actual[at] === expected[at]) at++;
  const around = (text: string) => ({ length: text.length, around: text.slice(Math.max(0, at - 20), at + 80) });
  expect(around(actual)).toEqual(around(expected));
}
