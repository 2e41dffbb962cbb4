// Starts one command by the agent of the box: its control group, its handle, its end. If the result is null, nothing of
// the command has run, and the ordinary path may start it.
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive } from '../../../../shared/process/child-process.ts';
import { errorText } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import type { CommittedOutput, ExecExit, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import { removeEndedExec, type ExecContext, type PreparedCommand } from '../exec/exec-process.ts';
import { environmentOf } from '../exec/wrapper.ts';
import { handleOf, handleOfStart, killedExit, type CommandPlace } from '../../../agent/agent-handle.ts';
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
  const { cgroups, log } = context;
  const { execId } = request;
  cgroups.addExec(execId, context.rootId);
  const started = agent.run(orderOf(request, command), request.acknowledges ?? false);
  if (started === null) {
    cgroups.tryRemoveExec(execId);
    return null;
  }
  return handleOfStart(placeOf(context, execId), execId, started, log);
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
  return handleOf(placeOf(context, execId), found);
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

function placeOf(context: ExecContext, execId: string): CommandPlace {
  const { cgroups } = context;
  return {
    killTree: () => cgroups.killExec(execId, limits.killTimeoutMs),
    hasChildren: () => Promise.resolve(cgroups.pids(execId).length > 0),
    killLost: (lost) => killLost(context, execId, lost),
    onEnd: () => {
      removeEndedExec(context, execId, null);
    },
  };
}

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
    if (!(await isAlive(init))) return killedExit;
    await delay(initPollMs);
  }
  return lost;
}
