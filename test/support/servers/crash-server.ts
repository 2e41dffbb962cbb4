// Runs a real server (`boxrun serve` from dist/) on its own state directory, for tests that kill its processes.
// `close` fails if a process, VM, mount, socket or box directory is left.
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
import { cacheHome, copyPreparedState } from './prepared-state.ts';

export interface CrashServer {
  readonly stateDir: string;
  readonly client: BoxRunClient;
  /** Sends SIGKILL to one process. Resolves when the process has gone. */
  kill(role: Role, box?: string): Promise<void>;
  /** Starts `boxrun serve` again after the keeper has ended. Resolves when the server answers requests. */
  serve(): Promise<void>;
  /** Returns everything that the present `serve` has printed. */
  said(): string;
  /** Ends `serve` in order, with SIGTERM. Returns its exit code, or null if it had ended before. */
  end(): Promise<number | null>;
  /** Removes every box, ends the server, and asserts that nothing is left. */
  close(): Promise<void>;
  /** Kills all processes of the server after a failure. The state directory stays, so that a person can look at it. */
  killAll(): Promise<void>;
}

export interface CrashServerOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The default is container. */
  readonly driver?: 'boxlite' | 'container';
  /** The default is a new directory. */
  readonly stateDir?: string;
  /** The file of the command line. The default is that of dist/. A test can replace it between two starts. */
  readonly program?: string;
  /**
   * Returns a program and its arguments. The program sets something and then becomes `boxrun serve` (exec). Called at
   * each start. The default is none.
   */
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

  // The probe of BoxLite takes long, and its result is valid until the host boots again. So later servers reuse it.
  const probe = join(tmpdir(), 'boxrun-probe-boxlite.json');
  const ownProbe = probeFileOf(stateDir, 'boxlite');
  if (options.driver === 'boxlite') await copyFile(probe, ownProbe).catch(() => undefined);
  else if (options.stateDir === undefined && options.program === undefined) await copyPreparedState(stateDir);
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
    async killAll() {
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

/** Finds VMs, container monitors and image tools of a state directory. Returns their command lines. */
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

/** Reads all events of a command, also over lost connections. Fails if seq does not start at 0 or has a gap. */
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

/** Compares long texts. On a difference it shows only the text around the first one. */
export function expectSameText(actual: string, expected: string): void {
  let at = 0;
  while (at < actual.length && actual[at] === expected[at]) at++;
  const around = (text: string) => ({ length: text.length, around: text.slice(Math.max(0, at - 20), at + 80) });
  expect(around(actual)).toEqual(around(expected));
}
