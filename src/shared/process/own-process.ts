// Starts one of BoxRun's own processes, and is also the child's side of that. The parent gives the child its settings
// and learns when it is ready; the child learns when the parent has ended. Both use a socket pair on descriptor 3,
// called the lifeline: it needs no path, and it closes when either process ends.
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { BoxRunError } from '../errors.ts';
import type { Config } from '../settings/config.ts';
import { limits } from '../limits.ts';
import { noSignOfLife, watchHeartbeat } from '../waiting/heartbeat.ts';
import { decodeError, encodeError, type WireError } from '../ipc/wire.ts';
import { statePaths } from '../settings/state-dir.ts';

export type Role = 'supervisor' | 'gateway' | 'writer' | 'worker';

/** What a parent tells a process that it starts. */
export interface ProcessOrders {
  readonly role: Role;
  readonly config: Config;
  /** The id of a worker. Null for other roles, and for a worker that only probes the engine and reports the result. */
  readonly workerId: string | null;
}

/**
 * Options for roles that pass on much data, most of it in buffers outside of JavaScript's heap. They keep the memory of
 * the process small: V8 collects garbage sooner, the process may ask for it, and freed memory goes back to the system
 * instead of to a pool of each thread (mallopt(3)). Children would inherit the environment, but the gateway starts no
 * process.
 */
const memoryOptions: Readonly<
  Partial<Record<Role, { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> }>>
> = {
  gateway: {
    args: ['--max-semi-space-size=4', '--expose-gc'],
    env: { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '16384' },
  },
};

/**
 * Not passed on to the child. With it, Node parses every root certificate at its start, which takes 80 ms, and BoxRun's
 * own processes use no TLS.
 */
const unwantedVariables: Readonly<Record<string, undefined>> = { NODE_EXTRA_CA_CERTS: undefined };

const ordersVariable = 'BOXRUN_ORDERS';
const lifelineFd = 3;
const beat = '\n';

export interface OwnProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /**
   * Resolves with the facts that the child gave when it became ready. Rejects with UNAVAILABLE if the child ended or
   * the deadline passed before, and with the child's own error if it refused.
   */
  readonly ready: Promise<Readonly<Record<string, unknown>>>;
  /**
   * Resolves when the child has ended, with a text that says how. A supervisor or gateway that gives no sign of life is
   * killed.
   */
  readonly exited: Promise<string>;
}

/** Starts Node with the arguments `nodeArgs` and the program `file`, in the root directory. */
export type SpawnNode = (
  file: string,
  nodeArgs: readonly string[],
  options: { stdio: StdioOptions; detached: boolean; env: NodeJS.ProcessEnv },
) => ChildProcess;

const spawnNodeDirectly: SpawnNode = (file, nodeArgs, options) =>
  spawn(process.execPath, [...nodeArgs, file], { ...options, cwd: '/' });

export interface StartOptions {
  readonly orders: ProcessOrders;
  readonly logFile: string;
  /** Milliseconds for the child to become ready. A child that calls `working` gets the time again. */
  readonly readyMs: number;
  /** True: the child gets a process group of its own (setsid(2)), so it can outlive its parent. */
  readonly detached: boolean;
  /** The environment of the child. The orders are added to it. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Another way to start Node, for example so that several processes share a port. */
  readonly spawnNode?: SpawnNode;
  /** Sent to the child over the lifeline, so that it is in no environment and in no list of arguments. */
  readonly secret?: string | null;
}

/** The directory for code that V8 compiles, for a process that has not called `takeOrders` yet. */
export function compiledDirOf(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return statePaths((JSON.parse(env[ordersVariable] ?? 'null') as ProcessOrders).config.stateDir).compiledDir;
}

/**
 * The bundle of a role, in the directory of the bundle that runs now. A worker's is CommonJS, because Node starts such
 * a program a few milliseconds sooner.
 */
function bundleOf(role: Role): string {
  return fileURLToPath(new URL(role === 'worker' ? './worker.cjs' : `./${role}.js`, import.meta.url));
}

/** Starts one of BoxRun's own processes, with its standard streams on a log file. */
export function startOwnProcess(options: StartOptions): OwnProcess {
  const log = openSync(options.logFile, 'a', 0o600);
  const {
    orders: { role },
    spawnNode = spawnNodeDirectly,
  } = options;
  const child = spawnNode(bundleOf(role), ['--no-warnings', ...(memoryOptions[role]?.args ?? [])], {
    stdio: ['ignore', log, log, 'pipe'],
    detached: options.detached,
    env: {
      ...options.env,
      ...unwantedVariables,
      ...memoryOptions[role]?.env,
      [ordersVariable]: JSON.stringify(options.orders),
    },
  });
  closeSync(log);
  let silenceReason: string | null = null;
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(silenceReason ?? signal ?? `exit ${code ?? 'unknown'}`);
    });
    child.once('error', (error) => {
      resolve(error.message);
    });
  });
  const lifeline = child.stdio[lifelineFd] as Socket | null;
  lifeline?.on('error', () => undefined); // The child's death is seen as its exit.
  if (options.secret !== undefined) lifeline?.write(`${JSON.stringify({ secret: options.secret })}\n`);
  const ready = untilReady(lifeline, exited, options);
  if (sendsHeartbeats(options.orders.role)) {
    const onSilent = () => {
      silenceReason = noSignOfLife;
      child.kill('SIGKILL');
    };
    const watchLifeline = () => {
      const heartbeat = watchHeartbeat({ silenceMs: options.orders.config.silenceMs, onSilent });
      lifeline?.on('data', heartbeat.heard);
      void exited.then(heartbeat.stop);
    };
    ready.then(watchLifeline, () => undefined);
  }
  return { child, pid: child.pid ?? -1, ready, exited };
}

/** True for the processes that end with the keeper. Writer and workers have sockets, over which others watch them. */
function sendsHeartbeats(role: Role): boolean {
  return role === 'supervisor' || role === 'gateway';
}

function untilReady(
  lifeline: Socket | null,
  exited: Promise<string>,
  { orders, readyMs, logFile }: StartOptions,
): Promise<Readonly<Record<string, unknown>>> {
  const ready = new Promise<Readonly<Record<string, unknown>>>((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      lifeline?.off('data', onData);
    };
    const fail = (reason: string, cause?: string) => {
      end();
      reject(new BoxRunError('UNAVAILABLE', `the ${orders.role} ${reason}`, { hint: `its log is ${logFile}`, cause }));
    };
    const timer = setTimeout(() => {
      fail(`was not ready within ${readyMs} ms`);
    }, readyMs);
    void exited.then((how) => {
      fail(`ended before it was ready (${how})`, how);
    });
    const onData = linesOf((line) => {
      const facts = line === null ? null : parseFacts(line);
      if (facts === null) {
        fail('sent a message that is not valid');
      } else if (facts['working'] === true) {
        timer.refresh();
      } else {
        end();
        lifeline?.resume(); // Later heartbeats must be read even if nothing listens for them.
        if (facts['refusal'] === undefined) resolve(facts);
        else reject(decodeError(facts['refusal'] as WireError));
      }
    });
    lifeline?.on('data', onData);
  });
  ready.catch(() => undefined); // A caller that awaits it still gets the error. Not every caller awaits it.
  return ready;
}

/** Calls `onLine` with each line, or with null if a line is longer than limits.lifelineCharsMax. */
function linesOf(onLine: (line: string | null) => void): (piece: Buffer) => void {
  let text = '';
  return (piece) => {
    text += piece.toString('utf8');
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) onLine(line);
    if (text.length > limits.lifelineCharsMax) {
      text = '';
      onLine(null);
    }
  };
}

/** True if a signal ended the child before it was ready. Then another start may succeed. */
export function wasKilledBeforeReady(error: unknown): boolean {
  return error instanceof BoxRunError && typeof error.cause === 'string' && error.cause.startsWith('SIG');
}

function parseFacts(line: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' ? (value as Readonly<Record<string, unknown>> | null) : null;
  } catch {
    return null;
  }
}

export interface Lifeline {
  readonly orders: ProcessOrders;
  /** Tells the parent that this process is ready, with facts about it. */
  ready(facts?: Readonly<Record<string, unknown>>): void;
  /** Tells the parent, before `ready`, that the start takes longer. The parent's deadline begins again. */
  working(): void;
  /**
   * Tells the parent, instead of `ready`, why this process cannot work. Resolves when the text is written; the process
   * should then exit.
   */
  refuse(reason: unknown): Promise<void>;
  /** The parent's StartOptions.secret. Never resolves if the parent gives none. */
  readonly secret: Promise<string | null>;
  /** Resolves when the parent has ended. */
  readonly parentGone: Promise<void>;
}

/**
 * The child's side of the lifeline. To be called once.
 * @throws Error if the process was not started by startOwnProcess
 */
export function takeOrders(env: Record<string, string | undefined> = process.env): Lifeline {
  const text = env[ordersVariable];
  if (text === undefined) throw new Error('this file is a part of boxrun; start it with `boxrun serve`');
  env[ordersVariable] = undefined;
  delete env[ordersVariable];
  const lifeline = new Socket({ fd: lifelineFd, readable: true, writable: true });
  const parentGone = new Promise<void>((resolve) => {
    lifeline.on('error', () => undefined);
    lifeline.on('close', () => {
      resolve();
    });
  });
  const secret = new Promise<string | null>((resolve) => {
    let said = '';
    lifeline.on('data', (piece: Buffer) => {
      said += piece.toString('utf8');
      const end = said.indexOf('\n');
      if (end < 0) return;
      lifeline.removeAllListeners('data').resume();
      resolve((JSON.parse(said.slice(0, end)) as { secret: string | null }).secret);
    });
  });
  lifeline.unref();
  const orders = JSON.parse(text) as ProcessOrders;
  return {
    orders,
    ready(facts = {}) {
      lifeline.write(`${JSON.stringify(facts)}\n`);
      if (!sendsHeartbeats(orders.role)) return;
      const timer = setInterval(() => lifeline.write(beat), limits.heartbeatEveryMs / 2);
      timer.unref();
      void parentGone.then(() => {
        clearInterval(timer);
      });
    },
    working() {
      lifeline.write(`${JSON.stringify({ working: true })}\n`);
    },
    refuse(reason) {
      return new Promise((resolve) => {
        lifeline.write(`${JSON.stringify({ refusal: encodeError(reason) })}\n`, () => {
          resolve();
        });
      });
    },
    secret,
    parentGone,
  };
}
