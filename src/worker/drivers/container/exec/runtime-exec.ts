// Starts one command in a running box, tells when it has begun, and kills its whole process tree by its control group.
// The group is named after the command, and it exists before any process of the command starts.
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
  firstReport,
  removeEndedExec,
  processText,
  removeQuietly,
  type ExecContext,
  type PreparedCommand,
  type StartedProcess,
} from './exec-process.ts';
import { startByAgent } from '../agent/agent-exec.ts';
import { lastLines, toolPath } from '../host/tools.ts';
import { spawnTerminal } from './runtime-terminal.ts';
import { wrapperFds } from './wrapper.ts';

/**
 * Starts a command, by the agent of the box if it is ready. Resolves when the command has begun. A command that cannot
 * be executed (exit codes 126 and 127, or a missing directory) gets an ordinary handle, too.
 * @throws RUNTIME_ERROR when the runtime itself failed, TIMEOUT
 */
export async function startExec(
  context: ExecContext,
  request: ExecRequest,
  command: PreparedCommand,
): Promise<ExecHandle> {
  // The agent gives its commands pipes of its own.
  const agent = request.socket === undefined ? await context.agent.ready() : null;
  const handle = agent === null ? null : await startByAgent(agent, context, request, command);
  return handle ?? startByRuntime(context, request, command);
}

/** The ordinary path: the OCI runtime is started once for each command. */
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
    const messages = await drainText(stderr);
    stdout.destroy();
    stdin?.destroy();
    if (error instanceof BoxRunError && error.code === 'TIMEOUT') throw error;
    throw new BoxRunError('RUNTIME_ERROR', `the command could not be started in the box: ${lastLines(messages)}`, {
      cause: error,
    });
  }
  // A command with a terminal has no stderr of its own. Only the runtime writes to this one.
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
    const isGiven = (is: 'stdin' | 'stdout') => request.socket?.is === is;
    const output = isGiven('stdout') ? null : await pipes.output();
    if (output !== null) {
      opened.push(output.childFd);
      sockets.push(output.reader);
    }
    const errors = await pipes.output();
    opened.push(errors.childFd);
    sockets.push(errors.reader);
    const input = request.stdin && !isGiven('stdin') ? await pipes.input() : null;
    if (input !== null) sockets.push(input.writer);
    const inputFd = input?.childFd ?? openSync('/dev/null', constants.O_RDONLY);
    opened.push(inputFd);
    writeFileSync(processFile, processText(context.limits, request, command), { mode: 0o600 });
    const joinFile = openSync(cgroups.addExec(request.execId), constants.O_WRONLY);
    opened.push(joinFile);
    const given = request.socket?.socket;
    const child = spawn(
      runtime.path,
      [
        ...['--root', paths.runtimeRoot, 'exec', '--process', processFile],
        ...['--preserve-fds', String(wrapperFds.withStreams), boxId],
      ],
      {
        cwd: '/',
        detached: true,
        // runc copies the streams 0 to 2, and waits until the command's last child has closed them. It passes the other
        // descriptors on unchanged, so the command's streams are among those.
        stdio: [
          ...(['ignore', 'ignore', errors.childFd, joinFile, 'pipe'] as const),
          ...[isGiven('stdin') ? given : inputFd, output?.childFd ?? given, errors.childFd],
        ],
        env: { PATH: toolPath, [homeMark]: paths.home },
      },
    );
    faultPoint('worker.exec.spawned');
    const exit = exitOf(context, request.execId, child, processFile);
    const begun = firstReport(child.stdio[4] as Duplex, child);
    begun.catch(() => undefined); // The caller of this function handles the error.
    return {
      begun,
      stdout: output?.reader ?? Readable.from([]),
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
      removeEndedExec(context, execId, processFile);
      resolve(exit);
    };
    child.once('error', (error) => {
      finish({ lost: `the OCI runtime could not be started: ${error.message}` });
    });
    child.once('exit', (code, signal) => {
      finish(code === null ? { lost: `the OCI runtime was ended by ${signal ?? 'a signal'}` } : { exitCode: code });
    });
  });
}

async function killTree({ cgroups }: ExecContext, execId: string, { exit }: StartedProcess): Promise<void> {
  await cgroups.killExec(execId, limits.killTimeoutMs);
  await withDeadline(exit, limits.killTimeoutMs, `the end of ${execId}`);
}

/**
 * Sends a signal to the command itself. In the group it is the process whose parent is the runtime on the host; its
 * children have other parents.
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
    // A part of the text is enough for a message.
  }
  return text;
}
