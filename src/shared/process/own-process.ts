// A process of ours seen from both sides: the parent starts it, hands it its settings and hears when it is ready; the
// child hears when the parent is gone. Both use one socket pair on descriptor 3, which needs no path and dies with
// either side. Used by keeper and supervisor (start) and by each main.ts (the rest).
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { BoxRunError } from '../errors.ts';
import type { Config } from '../settings/config.ts';
import { limits } from '../limits.ts';
import { noSignOfLife, watchHeartbeat } from './heartbeat.ts';
import { decodeError, encodeError, type WireError } from '../ipc/wire.ts';
import { statePaths } from '../settings/state-dir.ts';

export type Role = 'supervisor' | 'gateway' | 'writer' | 'worker';

/** Settings of one process, from its parent. */
export interface ProcessOrders {
  readonly role: Role;
  readonly config: Config;
  /** Of a worker; null for one that only tries out the engine and says in its ready line how that went. */
  readonly workerId: string | null;
}

/**
 * What keeps a process small that passes much data on, most of it in buffers outside of JavaScript's heap: garbage is
 * looked for sooner, and what is freed goes back to the system (mallopt(3)) instead of to pools of each thread. It has
 * no other children's environment in its hands: the gateway starts no process.
 */
const lean: Readonly<
  Partial<Record<Role, { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> }>>
> = {
  gateway: {
    args: ['--max-semi-space-size=4'],
    env: { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '65536' },
  },
};

/**
 * Where it is set, Node reads and parses every root certificate at its start, 80 ms each time. Our processes speak no
 * TLS.
 */
const slowing: Readonly<Record<string, undefined>> = { NODE_EXTRA_CA_CERTS: undefined };

const ordersVariable = 'BOXRUN_ORDERS';
const lifelineFd = 3;
const beat = '\n';

export interface OwnProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /**
   * Resolves with what the child said of itself; rejects with UNAVAILABLE when it ended or the deadline passed before.
   */
  readonly ready: Promise<Readonly<Record<string, unknown>>>;
  /** Resolves when it has ended, with how; one that has not shown any sign of life for long is killed. */
  readonly exited: Promise<string>;
}

/** Starts `file` as a program of Node with these arguments to Node, streams and environment, in the root directory. */
export type SpawnNode = (
  file: string,
  nodeArgs: readonly string[],
  options: { stdio: StdioOptions; detached: boolean; env: NodeJS.ProcessEnv },
) => ChildProcess;

const spawnNodeAlone: SpawnNode = (file, nodeArgs, options) =>
  spawn(process.execPath, [...nodeArgs, file], { ...options, cwd: '/' });

export interface StartOptions {
  readonly orders: ProcessOrders;
  readonly logFile: string;
  readonly readyMs: number;
  /** In a session of its own, so that the parent's death does not reach it. */
  readonly detached: boolean;
  /** Environment of the child; orders are added. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Starts Node otherwise than by itself: so that processes share a port, say. */
  readonly spawnNode?: SpawnNode;
  /** Said to the child over the socket pair, so that it stands in no environment and no arguments. */
  readonly secret?: string | null;
}

/** Where a process that has not taken its orders yet keeps what V8 compiles. */
export function compiledDirOf(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return statePaths((JSON.parse(env[ordersVariable] ?? 'null') as ProcessOrders).config.stateDir).compiledDir;
}

/**
 * The bundle of a role, beside the one that runs now; a worker's is CommonJS, which Node starts a few milliseconds
 * sooner.
 */
function bundleOf(role: Role): string {
  return fileURLToPath(new URL(role === 'worker' ? './worker.cjs' : `./${role}.js`, import.meta.url));
}

/** Starts one of BoxRun's own processes, with its standard streams on a log file. */
export function startOwnProcess(options: StartOptions): OwnProcess {
  const log = openSync(options.logFile, 'a', 0o600);
  const {
    orders: { role },
    spawnNode = spawnNodeAlone,
  } = options;
  const child = spawnNode(bundleOf(role), ['--no-warnings', ...(lean[role]?.args ?? [])], {
    stdio: ['ignore', log, log, 'pipe'],
    detached: options.detached,
    env: { ...options.env, ...slowing, ...lean[role]?.env, [ordersVariable]: JSON.stringify(options.orders) },
  });
  closeSync(log);
  let silence: string | null = null;
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(silence ?? signal ?? `exit ${code ?? 'unknown'}`);
    });
    child.once('error', (error) => {
      resolve(error.message);
    });
  });
  const lifeline = child.stdio[lifelineFd] as Socket | null;
  lifeline?.on('error', () => undefined); // The child's death is seen as its exit.
  if (options.secret !== undefined) lifeline?.write(`${JSON.stringify({ secret: options.secret })}\n`);
  const ready = firstLine(lifeline, exited, options);
  if (beats(options.orders.role)) {
    const onSilent = () => {
      silence = noSignOfLife;
      child.kill('SIGKILL');
    };
    const watch = () => {
      const heartbeat = watchHeartbeat({ silenceMs: options.orders.config.silenceMs, onSilent });
      lifeline?.on('data', heartbeat.heard);
      void exited.then(heartbeat.stop);
    };
    ready.then(watch, () => undefined);
  }
  return { child, pid: child.pid ?? -1, ready, exited };
}

/** Those that live and die with the keeper; the others are watched over through their own sockets. */
function beats(role: Role): boolean {
  return role === 'supervisor' || role === 'gateway';
}

function firstLine(
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
        fail('said something unreadable');
      } else if (facts['working'] === true) {
        timer.refresh();
      } else {
        end();
        lifeline?.resume(); // What comes from now on is read, whether somebody listens or not.
        if (facts['refusal'] === undefined) resolve(facts);
        else reject(decodeError(facts['refusal'] as WireError));
      }
    });
    lifeline?.on('data', onData);
  });
  ready.catch(() => undefined); // Whoever waits for it sees the error; nobody has to.
  return ready;
}

/** Gives each line to `onLine`; null once for a line that is longer than any that a process of ours says. */
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

/**
 * True for a child that a signal ended before it was ready: nothing that it would not start with again is known of it.
 */
export function wasKilledStarting(error: unknown): boolean {
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
  /** Tells the parent that this process does its work from now on, and what the parent should know of it. */
  ready(facts?: Readonly<Record<string, unknown>>): void;
  /** Before `ready`: it will take a while yet. The parent waits from now on as long as it would from the start. */
  working(): void;
  /**
   * Instead of `ready`: tells the parent why this process cannot do its work. Resolves when that is said; then exit.
   */
  refuse(reason: unknown): Promise<void>;
  /** What the parent says by StartOptions.secret; never resolves where it says nothing. */
  readonly secret: Promise<string | null>;
  /** Resolves when the parent is gone. */
  readonly parentGone: Promise<void>;
}

/**
 * The child's side, called once by its main.
 * @throws when the process was not started by startOwnProcess
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
      if (!beats(orders.role)) return;
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
