// Starts tools, identifies processes and kills them. Every tool has a deadline. A process is known by its pid and its
// start time, because the kernel may give the same pid to another process later.
import { spawn, type ChildProcess, type ChildProcessByStdio, type SpawnOptions } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { pendingReads } from '../waiting/clock.ts';
import { BoxRunError } from '../errors.ts';
import { describeStuck } from './stuck-process.ts';

export interface ToolResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ToolOptions {
  /** Milliseconds. Then the tool's process group is killed, and the caller gets TIMEOUT. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Buffer;
  /** Called with each line of standard error at once, to show progress. */
  readonly onStderrLine?: (line: string) => void;
}

const signalNumbers = constants.signals;
const toolOutputBytesMax = 1024 * 1024;

/**
 * Runs a program to its end and returns what it printed (the last MiB of each stream). A non-zero exit code is a
 * result, not an error. The tool gets its own process group, and the kernel kills it when this process dies
 * (setpriv --pdeathsig).
 * @throws TIMEOUT after `options.timeoutMs`, CANCELED when `options.signal` aborts, RUNTIME_ERROR if the program cannot
 *   be started
 */
export async function runTool(command: string, args: readonly string[], options: ToolOptions): Promise<ToolResult> {
  if (options.signal?.aborted) throw new BoxRunError('CANCELED', `${command} was canceled`);
  const spawnOptions: SpawnOptions = { stdio: ['pipe', 'pipe', 'pipe'], detached: true };
  if (options.cwd !== undefined) spawnOptions.cwd = options.cwd;
  if (options.env !== undefined) spawnOptions.env = options.env;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], spawnOptions);
  const killGroup = () => {
    if (child.pid !== undefined) killQuietly(-child.pid, 'SIGKILL');
  };
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup();
  }, options.timeoutMs);
  options.signal?.addEventListener('abort', killGroup, { once: true });
  const stdout = tail(child.stdout);
  const stderr = tail(child.stderr, options.onStderrLine);
  child.stdin?.on('error', () => undefined); // A tool may end without reading its input.
  child.stdin?.end(options.input ?? '');
  try {
    const exitCode = await exitCodeOf(child, command);
    if (timedOut) throw new BoxRunError('TIMEOUT', `${command} took longer than ${options.timeoutMs} ms`);
    if (options.signal?.aborted) throw new BoxRunError('CANCELED', `${command} was canceled`);
    // setpriv exits with 127 and prints its own message if there is no such program.
    if (exitCode === 127 && stderr().startsWith('setpriv:')) {
      throw new BoxRunError('RUNTIME_ERROR', `cannot start ${command}: it is not installed`);
    }
    return { exitCode, stdout: stdout(), stderr: stderr() };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', killGroup);
  }
}

/**
 * Starts a program that reads bytes from its standard input and writes bytes to its standard output. The caller sees
 * only its exit code if it fails, not its standard error.
 */
export function startFilter(command: string, args: readonly string[]): ChildProcessByStdio<Writable, Readable, null> {
  return spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
}

/** Milliseconds for the output to end after the program has ended. A child in another group may still hold it open. */
const outputGraceMs = 500;

/** The exit code as a shell reports it (128 + signal). Resolves when the output has ended too. */
function exitCodeOf(child: ChildProcess, command: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) => {
      reject(new BoxRunError('RUNTIME_ERROR', `cannot start ${command}: ${error.message}`, { cause: error }));
    });
    child.once('exit', (code, signal) => {
      const exitCode = code ?? 128 + (signal === null ? 0 : signalNumbers[signal]);
      const grace = setTimeout(() => {
        void pendingReads().then(() => {
          child.stdout?.destroy();
          child.stderr?.destroy();
          resolve(exitCode);
        });
      }, outputGraceMs);
      child.once('close', () => {
        clearTimeout(grace);
        resolve(exitCode);
      });
    });
  });
}

/** Collects the end of a stream, up to toolOutputBytesMax characters. The function returned gives the text so far. */
function tail(stream: NodeJS.ReadableStream | null, onLine?: (line: string) => void): () => string {
  let text = '';
  let partial = '';
  stream?.setEncoding('utf8');
  stream?.on('data', (piece: string) => {
    text = (text + piece).slice(-toolOutputBytesMax);
    if (onLine === undefined) return;
    const lines = (partial + piece).split(/[\r\n]+/);
    partial = (lines.pop() ?? '').slice(-4096);
    for (const line of lines) if (line !== '') onLine(line);
  });
  return () => text;
}

/**
 * Sends a signal. It does nothing if the process has already ended. It never signals the caller's own group, or every
 * process: kill(2) takes 0 and -1 for these, and a list of the kernel (cgroup.procs) can have 0 for a process that is
 * just ending.
 */
export function killQuietly(pid: number, signal: NodeJS.Signals | number): void {
  if (pid === 0 || pid === -1) return;
  try {
    process.kill(pid, signal);
  } catch {
    // The process has already ended.
  }
}

/** Identifies one process. A pid alone is not enough: the kernel may have given it to another process since. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot (proc(5)). */
  readonly startTicks: number;
}

/** The identity of a live process, or null if it has ended or is a zombie. */
export async function processIdentity(pid: number): Promise<ProcessIdentity | null> {
  const fields = await statFields(pid);
  if (fields === null || fields[0] === 'Z' || fields[0] === 'X') return null;
  return { pid, startTicks: Number(fields[19]) };
}

/** The pid of a process's parent, or null if the process has ended. */
export async function parentOf(pid: number): Promise<number | null> {
  const fields = await statFields(pid);
  return fields === null ? null : Number(fields[1]);
}

/** True if the process has a controlling terminal. */
export async function hasTerminal(pid: number): Promise<boolean> {
  const fields = await statFields(pid);
  return fields !== null && Number(fields[4]) !== 0;
}

/** The fields of /proc/PID/stat (proc(5)) from the third one, the state. Null if the process has ended. */
async function statFields(pid: number): Promise<string[] | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  // The command name is in parentheses, and may itself contain spaces and parentheses.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? null;
}

/** True while exactly this process lives. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await processIdentity(identity.pid);
  return now !== null && now.startTicks === identity.startTicks;
}

/** Most processes die within two milliseconds. For the others, the pause between two checks doubles up to this. */
const deathPollMostMs = 16;

/**
 * Kills exactly this process and waits until it is dead.
 * @param what names the process in the error, which also contains what the kernel says about it
 * @throws TIMEOUT if it still lives after `timeoutMs` milliseconds, for example in an uninterruptible sleep
 */
export async function killAndWait(identity: ProcessIdentity, timeoutMs: number, what: string): Promise<void> {
  if (await isAlive(identity)) killQuietly(identity.pid, 'SIGKILL');
  const deadline = Date.now() + timeoutMs;
  for (let pauseMs = 1; await isAlive(identity); pauseMs = Math.min(2 * pauseMs, deathPollMostMs)) {
    if (Date.now() > deadline) {
      const found = await describeStuck(identity.pid);
      throw new BoxRunError(
        'TIMEOUT',
        `process ${identity.pid}, ${what}, did not die within ${timeoutMs} ms: ${found}`,
      );
    }
    await delay(pauseMs);
  }
}
