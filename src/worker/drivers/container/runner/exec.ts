// One command that the box's runner starts: its pipes by name, its control group, its end. Called by ../exec.ts, which
// takes the ordinary path where this gives null: then nothing of the command has run.
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive } from '../../../../shared/process/child-process.ts';
import { settledWithin, withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError, errorText } from '../../../../shared/errors.ts';
import { faultPoint } from '../../../../shared/faults/fault.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ExecExit, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import { forgetExec, type ExecContext, type PreparedCommand } from '../exec/exec-process.ts';
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
 * @throws RUNTIME_ERROR when it was killed before it began; TIMEOUT
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
  const keep = <Pipe extends OutputPipe | InputPipe>(pipe: Pipe): Pipe => {
    opened.push(pipe);
    return pipe;
  };
  let started: RunnerCommand | null = null;
  try {
    const streams = {
      output: keep(await pipes.output()),
      errors: keep(await pipes.output()),
      input: request.stdin ? keep(await pipes.input()) : null,
    };
    cgroups.addExec(execId, context.rootId);
    started = channel.run(orderOf(request, command, streams));
    if (started !== null) {
      faultPoint('worker.exec.ordered');
      await withDeadline(started.begun, limits.execStartTimeoutMs, `starting ${execId}`);
      return handleOf(context, execId, started, streams);
    }
  } catch (error) {
    for (const pipe of opened) pipe.drop();
    await cgroups.killExec(execId, limits.killTimeoutMs);
    if (!(error instanceof RunnerGone) && !isWorthAnother(error)) throw error;
    context.log.warn({ err: error, execId }, 'the runner did not start a command; it takes the ordinary path');
    return null;
  }
  for (const pipe of opened) pipe.drop();
  cgroups.tryRemoveExec(execId);
  return null;
}

/** Whether another way may do what the runner could not. */
function isWorthAnother(error: unknown): boolean {
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
  let giveUp: (exit: ExecExit) => void = () => undefined;
  const givenUp = new Promise<ExecExit>((resolve) => {
    giveUp = resolve;
  });
  const exit = Promise.race([
    started.exit.then((how) => ('lost' in how ? endLost(context, execId, how) : how)),
    givenUp,
  ]).then((how) => {
    forgetExec(context, execId, null);
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
      // Its group is gone, so nothing of it lives, even where the runner cannot say so.
      if (!(await settledWithin(exit, limits.runnerReportMs))) giveUp(killed);
    },
  };
}

const killed: ExecExit = { exitCode: 128 + constants.signals.SIGKILL };

/**
 * Nobody can tell how the command ends, so it ends now; unless the box itself has ended, which kills everything in it.
 */
async function endLost({ cgroups, init, log }: ExecContext, execId: string, lost: ExecExit): Promise<ExecExit> {
  await cgroups.killExec(execId, limits.killTimeoutMs).catch((error: unknown) => {
    log.error({ error: errorText(error), execId }, 'a command whose runner is gone could not be killed');
  });
  const deadline = performance.now() + limits.runnerReportMs;
  while (performance.now() < deadline) {
    if (!(await isAlive(init))) return killed;
    await delay(initPollMs);
  }
  return lost;
}
