// Starts one command by the agent of the box: its control group, its handle, its end. If the result is null, nothing of
// the command has run, and the ordinary path may start it.
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive } from '../../../../shared/process/child-process.ts';
import { settledWithin, withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError, errorText } from '../../../../shared/errors.ts';
import { faultPoint } from '../../../../shared/faults/fault.ts';
import { limits } from '../../../../shared/limits.ts';
import type { CommittedOutput, ExecExit, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import { removeEndedExec, type ExecContext, type PreparedCommand } from '../exec/exec-process.ts';
import { environmentOf } from '../exec/wrapper.ts';
import { AgentGone, StartRefused, type AgentCommand } from '../../../agent/agent-command.ts';
import type { AgentLine } from '../../../agent/agent-line.ts';
import type { AgentOrder } from '../../../agent/frames.ts';

const initPollMs = 5;

/**
 * Starts the command, or returns null if the agent cannot start it.
 * @throws RUNTIME_ERROR when the command was killed before it began, TIMEOUT
 */
export async function startByAgent(
  agent: AgentLine,
  context: ExecContext,
  request: ExecRequest,
  command: PreparedCommand,
): Promise<ExecHandle | null> {
  const { cgroups } = context;
  const { execId } = request;
  cgroups.addExec(execId, context.rootId);
  const started = agent.run(orderOf(request, command), request.acknowledges ?? false);
  if (started === null) {
    cgroups.tryRemoveExec(execId);
    return null;
  }
  faultPoint('worker.exec.ordered');
  try {
    await withDeadline(started.begun, limits.execStartTimeoutMs, `starting ${execId}`);
    return handleOf(context, execId, started);
  } catch (error) {
    await cgroups.killExec(execId, limits.killTimeoutMs);
    for (const output of [started.stdout, started.stderr]) output.destroy();
    if (error instanceof AgentGone) {
      // The command may have begun: the agent tells it only afterwards. So nothing may start it a second time.
      throw new BoxRunError('RUNTIME_ERROR', `${error.message} while it was starting the command, which may have run`, {
        hint: 'start the command again if it may run twice',
        cause: error,
      });
    }
    if (!canTakeOrdinaryPath(error)) throw error;
    context.log.warn({ err: error, execId }, 'the agent did not start a command; the ordinary path will');
    return null;
  }
}

/** Continues a command that an earlier worker has started by this agent. Null: the agent does not have it. */
export function resumeByAgent(
  agent: AgentLine,
  context: ExecContext,
  execId: string,
  committed: CommittedOutput,
): ExecHandle | null {
  const found = agent.found.get(execId);
  if (found === undefined) return null;
  found.resume([committed.stdout, committed.stderr]);
  return handleOf(context, execId, found);
}

/**
 * True when the ordinary path may succeed although the agent failed.
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

function orderOf(request: ExecRequest, { workdir, env, user }: PreparedCommand): AgentOrder {
  return {
    name: request.execId,
    group: request.execId,
    cmd: request.cmd,
    env: environmentOf(env, workdir),
    workdir,
    isOwnDirectory: request.workdir === null,
    user,
    tty: request.tty,
    stdin: request.stdin,
  };
}

function handleOf(context: ExecContext, execId: string, started: AgentCommand): ExecHandle {
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
  return {
    stdout: started.stdout,
    stderr: started.stderr,
    stdin: started.stdin,
    exit,
    resize: (cols, rows) => {
      started.resize(cols, rows);
      return Promise.resolve();
    },
    acknowledge: (output, bytes) => {
      started.acknowledge(output === 'stdout' ? 0 : 1, bytes);
    },
    forget: () => {
      started.forget();
    },
    signal: (signal) => {
      started.signal(signal);
      return Promise.resolve();
    },
    hasChildren: () => Promise.resolve(cgroups.pids(execId).length > 0),
    async killTree() {
      await cgroups.killExec(execId, limits.killTimeoutMs);
      // The group has been removed, so no process of the command is alive, even if the agent cannot report it.
      if (!(await settledWithin(exit, limits.commandEndReportMs))) reportKilled(killed);
    },
  };
}

const killed: ExecExit = { exitCode: 128 + constants.signals.SIGKILL };

/**
 * Kills a command whose agent has ended, because its exit code can no longer be known. If the first process of the box
 * ends within limits.commandEndReportMs, the box has ended: the result is then exit code 137, otherwise `lost`.
 */
async function killLost({ cgroups, init, log }: ExecContext, execId: string, lost: ExecExit): Promise<ExecExit> {
  await cgroups.killExec(execId, limits.killTimeoutMs).catch((error: unknown) => {
    log.error({ error: errorText(error), execId }, 'a command whose agent has ended could not be killed');
  });
  const deadline = performance.now() + limits.commandEndReportMs;
  while (performance.now() < deadline) {
    if (!(await isAlive(init))) return killed;
    await delay(initPollMs);
  }
  return lost;
}
