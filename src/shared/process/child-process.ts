// Starting and ending processes: run a tool to its end under a deadline, tell a live pid from a reused one, TERM then
// KILL. Used by keeper, supervisor, drivers and image tools; nothing else starts processes.
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
  /** Milliseconds; then the tool's process group is killed and TIMEOUT thrown. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Buffer;
  /** Each line of standard error as it comes, for progress. */
  readonly onStderrLine?: (line: string) => void;
}

const signalNumbers = constants.signals;
const toolOutputBytesMax = 1024 * 1024;

/**
 * Runs a program to its end and gives what it printed (the last MiB of each stream). A non-zero exit is a result, not
 * an error. The tool gets a process group of its own, and dies with this process (setpriv --pdeathsig).
 * @throws TIMEOUT, CANCELED, RUNTIME_ERROR when the program cannot be started
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
    const exitCode = await endOf(child, command);
    if (timedOut) throw new BoxRunError('TIMEOUT', `${command} took longer than ${options.timeoutMs} ms`);
    if (options.signal?.aborted) throw new BoxRunError('CANCELED', `${command} was canceled`);
    // setpriv's own words and exit code when there is no such program.
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
 * Starts a program through which bytes are passed, from its standard input to its standard output; its errors are its
 * exit code.
 */
export function startFilter(command: string, args: readonly string[]): ChildProcessByStdio<Writable, Readable, null> {
  return spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
}

/** After the program itself, a child in a session of its own may hold its output for this long. */
const outputGraceMs = 500;

/** The exit code, as a shell would say it, when the output has come to its end too. */
function endOf(child: ChildProcess, command: string): Promise<number> {
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

/** Sends a signal and ignores that the process is gone already. */
export function killQuietly(pid: number, signal: NodeJS.Signals | number): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone, which is what was wanted.
  }
}

/** Identity of a process: a pid alone may have been given to another one since. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot (proc(5)). */
  readonly startTicks: number;
}

/** The identity of a live process, or null when it is gone or a zombie. */
export async function processIdentity(pid: number): Promise<ProcessIdentity | null> {
  const fields = await statFields(pid);
  if (fields === null || fields[0] === 'Z' || fields[0] === 'X') return null;
  return { pid, startTicks: Number(fields[19]) };
}

/** The parent of a process, or null when it is gone. */
export async function parentOf(pid: number): Promise<number | null> {
  const fields = await statFields(pid);
  return fields === null ? null : Number(fields[1]);
}

/** Whether the process has a controlling terminal. */
export async function hasTerminal(pid: number): Promise<boolean> {
  const fields = await statFields(pid);
  return fields !== null && Number(fields[4]) !== 0;
}

/** /proc/PID/stat from its third field, the state, on (proc(5)); null when the process is gone. */
async function statFields(pid: number): Promise<string[] | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  // The command name stands in parentheses and may itself hold spaces and parentheses.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? null;
}

/** True while exactly that process lives. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await processIdentity(identity.pid);
  return now !== null && now.startTicks === identity.startTicks;
}

/** Most processes are gone within a millisecond or two; one that is not is asked after less and less often. */
const deathPollMostMs = 16;

/**
 * Kills exactly that process and waits until it is gone.
 * @param what the process is, for the error, which also says what the kernel tells of it
 * @throws TIMEOUT when it is still there after `timeoutMs` milliseconds (a process in uninterruptible sleep)
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
