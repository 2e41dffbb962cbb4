// One command in a running box: starts the runtime's exec with real pipes, knows when the command itself began, and
// kills its whole tree by its control group. Called by driver.ts; the group is made, and named after the command,
// before anything starts.
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, constants, writeFileSync } from 'node:fs';
import { Readable, type Duplex, type Writable } from 'node:stream';
import { killQuietly, parentOf } from '../../../../shared/process/child-process.ts';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { faultPoint } from '../../../../shared/faults/fault.ts';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ExecExit, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import {
  processFileOf,
  firstWords,
  forgetExec,
  processText,
  removeQuietly,
  type ExecContext,
  type PreparedCommand,
  type StartedProcess,
} from './exec-process.ts';
import { startByRunner } from '../runner/exec.ts';
import { lastLines, toolPath } from '../host/tools.ts';
import { spawnTerminal } from './runtime-terminal.ts';
import { wrapperFds } from './wrapper.ts';

/**
 * Starts a command. Resolves when it runs, or when it is known why it cannot (127, 126, missing directory: a handle
 * like any other).
 * @throws RUNTIME_ERROR when the runtime itself failed
 */
export async function startExec(
  context: ExecContext,
  request: ExecRequest,
  command: PreparedCommand,
): Promise<ExecHandle> {
  const runner = request.tty === null ? await context.runner.ready() : null;
  const handle = runner === null ? null : await startByRunner(runner, context, request, command);
  return handle ?? startByRuntime(context, request, command);
}

/** The ordinary path: one start of the OCI runtime. */
async function startByRuntime(
  context: ExecContext,
  request: ExecRequest,
  command: PreparedCommand,
): Promise<ExecHandle> {
  const started = await (request.tty === null
    ? spawnExec(context, request, command)
    : spawnTerminal(context, request, command, request.tty));
  const { stdout, stderr, stdin, exit } = started;
  try {
    await withDeadline(started.begun, limits.execStartTimeoutMs, `starting ${request.execId}`);
  } catch (error) {
    await killTree(context, request.execId, started).catch(() => undefined);
    const said = await drainText(stderr);
    stdout.destroy();
    stdin?.destroy();
    if (error instanceof BoxRunError && error.code === 'TIMEOUT') throw error;
    throw new BoxRunError('RUNTIME_ERROR', `the command could not be started in the box: ${lastLines(said)}`, {
      cause: error,
    });
  }
  // A command with a terminal has no stderr of its own: what comes there is the runtime's.
  if (request.tty !== null) stderr.resume();
  return {
    stdout,
    stderr: request.tty === null ? stderr : Readable.from([]),
    stdin,
    exit,
    resize(cols, rows) {
      if (started.resize === undefined)
        return Promise.reject(new BoxRunError('RUNTIME_ERROR', 'this command has no terminal'));
      started.resize({ cols, rows });
      return Promise.resolve();
    },
    signal: (signal) => signalLeader(context, request.execId, started, signal),
    hasChildren: () => Promise.resolve(context.cgroups.pids(request.execId).length > 0),
    killTree: () => killTree(context, request.execId, started),
  };
}

async function spawnExec(
  context: ExecContext,
  request: ExecRequest,
  command: PreparedCommand,
): Promise<StartedProcess> {
  const { paths, pipes, cgroups, runtime, boxId } = context;
  const opened: number[] = [];
  const sockets: Array<Readable | Writable> = [];
  const processFile = processFileOf(paths, request.execId);
  try {
    const output = await pipes.output();
    opened.push(output.childFd);
    sockets.push(output.reader);
    const errors = await pipes.output();
    opened.push(errors.childFd);
    sockets.push(errors.reader);
    const input = request.stdin ? await pipes.input() : null;
    if (input !== null) sockets.push(input.writer);
    const inputFd = input?.childFd ?? openSync('/dev/null', constants.O_RDONLY);
    opened.push(inputFd);
    writeFileSync(processFile, processText(context.limits, request, command), { mode: 0o600 });
    const joinFile = openSync(cgroups.addExec(request.execId), constants.O_WRONLY);
    opened.push(joinFile);
    const child = spawn(
      runtime.path,
      [
        ...['--root', paths.runtimeRoot, 'exec', '--process', processFile],
        ...['--preserve-fds', String(wrapperFds.withStreams), boxId],
      ],
      {
        cwd: '/',
        detached: true,
        // runc copies what it gets as 0 to 2, and waits for the command's last child to close it; the rest it hands on
        // as it is.
        stdio: ['ignore', 'ignore', errors.childFd, joinFile, 'pipe', inputFd, output.childFd, errors.childFd],
        env: { PATH: toolPath, [homeMark]: paths.home },
      },
    );
    faultPoint('worker.exec.spawned');
    const exit = exitOf(context, request.execId, child, processFile);
    const begun = firstWords(child.stdio[4] as Duplex, child);
    begun.catch(() => undefined); // Whoever waits for it sees it.
    return {
      begun,
      stdout: output.reader,
      stderr: errors.reader,
      stdin: input?.writer ?? null,
      exit,
      clientPid: child.pid ?? 0,
    };
  } catch (error) {
    for (const socket of sockets) socket.destroy();
    removeQuietly(processFile);
    cgroups.tryRemoveExec(request.execId);
    throw error;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

function exitOf(context: ExecContext, execId: string, child: ChildProcess, processFile: string): Promise<ExecExit> {
  return new Promise((resolve) => {
    const finish = (exit: ExecExit) => {
      forgetExec(context, execId, processFile);
      resolve(exit);
    };
    child.once('error', (error) => {
      finish({ lost: `the OCI runtime could not be started: ${error.message}` });
    });
    child.once('exit', (code, signal) => {
      finish(
        code === null ? { lost: `the OCI runtime's client was ended by ${signal ?? 'a signal'}` } : { exitCode: code },
      );
    });
  });
}

async function killTree({ cgroups }: ExecContext, execId: string, { exit }: StartedProcess): Promise<void> {
  await cgroups.killExec(execId, limits.killTimeoutMs);
  await withDeadline(exit, limits.killTimeoutMs, `the end of ${execId}`);
}

/**
 * The command itself is the one in its group whose parent is the runtime's client; what it has started has other
 * parents.
 */
async function signalLeader(
  { cgroups }: ExecContext,
  execId: string,
  { clientPid }: StartedProcess,
  signal: number,
): Promise<void> {
  for (const pid of cgroups.pids(execId)) {
    if ((await parentOf(pid)) === clientPid) killQuietly(pid, signal);
  }
}

async function drainText(stream: Readable): Promise<string> {
  let text = '';
  try {
    for await (const chunk of stream) text += String(chunk);
  } catch {
    // What was read is enough.
  }
  return text;
}
