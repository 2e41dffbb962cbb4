// Starts one command by the box's runner: its pipes, its control group, its end. If the result is null, nothing of the
// command has run, and the ordinary path may start it.
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive } from '../../../../shared/process/child-process.ts';
import { settledWithin, withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError, errorText } from '../../../../shared/errors.ts';
import { faultPoint } from '../../../../shared/faults/fault.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ExecExit, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import { removeEndedExec, type ExecContext, type PreparedCommand } from '../exec/exec-process.ts';
import { environmentOf } from '../exec/wrapper.ts';
import { RunnerGone, StartRefused, type RunnerCommand } from './channel.ts';
import type { InputPipe, OutputPipe } from './pipes.ts';
import type { ReadyRunner } from './runner.ts';

const initPollMs = 5;

interface Streams {
  readonly output: OutputPipe;
  readonly errors: OutputPipe;
  readonly input: InputPipe | null;
}

/**
 * Starts the command, or returns null if the runner cannot start it.
 * @throws RUNTIME_ERROR when the command was killed before it began, TIMEOUT
 */
export async function startByRunner(
  { channel, pipes }: ReadyRunner,
  context: ExecContext,
  request: ExecRequest,
  command: PreparedCommand,
): Promise<ExecHandle | null> {
  const { cgroups } = context;
  const { execId } = request;
  const opened: Array<OutputPipe | InputPipe> = [];
  const track = <Pipe extends OutputPipe | InputPipe>(pipe: Pipe): Pipe => {
    opened.push(pipe);
    return pipe;
  };
  let started: RunnerCommand | null = null;
  try {
    const streams = {
      output: track(await pipes.output()),
      errors: track(await pipes.output()),
      input: request.stdin ? track(await pipes.input()) : null,
    };
    cgroups.addExec(execId, context.rootId);
    started = channel.run(orderOf(request, command, streams));
    if (started !== null) {
      faultPoint('worker.exec.ordered');
      await withDeadline(started.begun, limits.execStartTimeoutMs, `starting ${execId}`);
      return handleOf(context, execId, started, streams);
    }
  } catch (error) {
    for (const pipe of opened) pipe.remove();
    await cgroups.killExec(execId, limits.killTimeoutMs);
    if (!(error instanceof RunnerGone) && !canTakeOrdinaryPath(error)) throw error;
    context.log.warn({ err: error, execId }, 'the runner did not start a command; the ordinary path will');
    return null;
  }
  for (const pipe of opened) pipe.remove();
  cgroups.tryRemoveExec(execId);
  return null;
}

/**
 * True when the ordinary path may succeed although the runner failed.
 * @throws RUNTIME_ERROR when the command was killed before it began
 */
function canTakeOrdinaryPath(error: unknown): boolean {
  if (!(error instanceof StartRefused)) return false;
  const { ENOENT, ENODEV } = constants.errno;
  const groupIsGone = error.stage === 'join' && (error.errno === ENOENT || error.errno === ENODEV);
  if (!groupIsGone && error.stage !== 'killed') return true;
  throw new BoxRunError('RUNTIME_ERROR', 'the command could not be started in the box: it was killed before it began', {
    cause: error,
  });
}

function orderOf(request: ExecRequest, { workdir, env, user }: PreparedCommand, { output, errors, input }: Streams) {
  return {
    group: request.execId,
    input: input?.name ?? null,
    output: output.name,
    errors: errors.name,
    cmd: request.cmd,
    env: environmentOf(env, workdir),
    workdir,
    isOwnDirectory: request.workdir === null,
    user,
  };
}

function handleOf(context: ExecContext, execId: string, started: RunnerCommand, streams: Streams): ExecHandle {
  const { cgroups } = context;
  let reportKilled: (exit: ExecExit) => void = () => undefined;
  const unreportedKill = new Promise<ExecExit>((resolve) => {
    reportKilled = resolve;
  });
  const exit = Promise.race([
    started.exit.then((how) => ('lost' in how ? killLost(context, execId, how) : how)),
    unreportedKill,
  ]).then((how) => {
    removeEndedExec(context, execId, null);
    return how;
  });
  const firstLook = settledWithin(exit, limits.outputFirstLookMs);
  const stdin: Socket | null = streams.input?.take() ?? null;
  return {
    stdout: streams.output.take(firstLook),
    stderr: streams.errors.take(firstLook),
    stdin,
    exit,
    resize: () => Promise.reject(new BoxRunError('RUNTIME_ERROR', 'this command has no terminal')),
    signal: (signal) => {
      started.signal(signal);
      return Promise.resolve();
    },
    hasChildren: () => Promise.resolve(cgroups.pids(execId).length > 0),
    async killTree() {
      await cgroups.killExec(execId, limits.killTimeoutMs);
      // The group has been removed, so no process of the command is alive, even if the runner cannot report it.
      if (!(await settledWithin(exit, limits.commandEndReportMs))) reportKilled(killed);
    },
  };
}

const killed: ExecExit = { exitCode: 128 + constants.signals.SIGKILL };

/**
 * Kills a command whose runner has ended, because its exit code can no longer be known. If the first process of the box
 * ends within limits.commandEndReportMs, the box has ended: the result is then exit code 137, otherwise `lost`.
 */
async function killLost({ cgroups, init, log }: ExecContext, execId: string, lost: ExecExit): Promise<ExecExit> {
  await cgroups.killExec(execId, limits.killTimeoutMs).catch((error: unknown) => {
    log.error({ error: errorText(error), execId }, 'a command whose runner has ended could not be killed');
  });
  const deadline = performance.now() + limits.commandEndReportMs;
  while (performance.now() < deadline) {
    if (!(await isAlive(init))) return killed;
    await delay(initPollMs);
  }
  return lost;
}
