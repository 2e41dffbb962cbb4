// Commands in a running box: their environment and their user, and how commands of an earlier worker are killed. The
// request overrides the box, and the box overrides the image. Several of these calls may run at the same time.
import { limits } from '../../../../shared/limits.ts';
import { commandOrRefusal } from '../../argument-list.ts';
import { withMemoryKills } from '../../memory-kills.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { endFound } from '../../../agent/agent-handle.ts';
import { resumeByAgent } from '../agent/agent-exec.ts';
import type { CommandUsage, CommittedOutput, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import { readBoxText } from './box-text.ts';
import { defaultPath } from '../box/bundle.ts';
import { startExec } from './runtime-exec.ts';
import { removeLingeringGroups } from './exec-process.ts';
import type { ContainerState, Running } from '../box/container-state.ts';
import { toolsInBox } from '../paths.ts';
import { isAgentOfThisWorker } from '../agent/box-agent.ts';
import { resolveUser, type UserIds } from '../../users.ts';

/**
 * Starts a command in the box.
 * @throws BOX_NOT_RUNNING, RUNTIME_ERROR, TIMEOUT
 */
export async function execInBox(container: ContainerState, request: ExecRequest): Promise<ExecHandle> {
  const { spec } = container.context;
  const { cgroups } = container;
  const current = container.needRunning();
  const { ownExecIds, image, exec } = current;
  ownExecIds.add(request.execId);
  try {
    const user = userOf(current, request);
    const given = { PATH: defaultPath, ...(request.tty === null ? {} : { TERM: request.tty.term }) };
    const env = { HOME: user.home, ...withImageEnv(given, image.config.env), ...spec.env, ...request.env };
    const before = boxCounts(cgroups);
    const command = commandOrRefusal(
      { cmd: request.cmd, workdir: request.workdir ?? spec.workdir, env },
      exec.limits,
      `${toolsInBox}/busybox`,
      'sh',
    );
    const handle = await startExec(
      exec,
      { ...request, cmd: command.cmd },
      { workdir: command.workdir, env: command.env, user },
    );
    let usage: CommandUsage | null = null;
    const exit = handle.exit.then((how) => {
      ownExecIds.delete(request.execId);
      const after = boxCounts(cgroups);
      const oomKills = Math.max(0, after.oomKills - before.oomKills);
      const throttledSeconds = Math.max(0, after.throttledSeconds - before.throttledSeconds);
      usage = { cpuSeconds: null, peakMemoryBytes: null, ...handle.usage?.(), oomKills, throttledSeconds };
      return withMemoryKills(how, oomKills, spec.memoryMb);
    });
    return { ...handle, exit, usage: () => usage };
  } catch (error) {
    ownExecIds.delete(request.execId);
    throw error;
  }
}

interface BoxCounts {
  readonly oomKills: number;
  readonly throttledSeconds: number;
}

function boxCounts(cgroups: ContainerState['cgroups']): BoxCounts {
  return { oomKills: cgroups.oomKills(), throttledSeconds: cgroups.throttledSeconds() };
}

/**
 * Ids of commands that an earlier worker started. Their control groups still exist. The agent of an earlier worker has
 * a control group too, so it is among them and is killed with them.
 * @throws BOX_NOT_RUNNING
 */
export function foundExecs(container: ContainerState): string[] {
  const { ownExecIds } = container.needRunning();
  return container.cgroups.execIds().filter((execId) => !ownExecIds.has(execId) && !isAgentOfThisWorker(execId));
}

/**
 * Ids of commands of an earlier worker that the agent of the box has kept.
 * @throws BOX_NOT_RUNNING
 */
export function heldExecs(container: ContainerState): string[] {
  return [...(container.needRunning().exec.agent.present?.found.keys() ?? [])];
}

/**
 * Continues a command of an earlier worker.
 * @throws BOX_NOT_RUNNING; RUNTIME_ERROR when the agent does not have it any more
 */
export async function resumeExec(
  container: ContainerState,
  execId: string,
  committed: CommittedOutput,
): Promise<ExecHandle> {
  const { exec, ownExecIds } = container.needRunning();
  const agent = exec.agent.present;
  const handle = agent === null ? null : resumeByAgent(agent, exec, execId, committed);
  if (handle === null) throw new BoxRunError('RUNTIME_ERROR', 'the agent of the box has ended');
  ownExecIds.add(execId);
  const exit = handle.exit.then((how) => {
    ownExecIds.delete(execId);
    return how;
  });
  return { ...handle, exit };
}

/**
 * Kills the commands of an earlier worker.
 * @param finished ids of commands that have ended: their background children live on
 * @param kept ids of commands that go on
 * @throws BOX_NOT_RUNNING, TIMEOUT
 */
export async function killStrayExecs(
  container: ContainerState,
  finished: ReadonlySet<string>,
  kept: ReadonlySet<string> = new Set(),
): Promise<void> {
  const { exec } = container.needRunning();
  await endFound([...(exec.agent.present?.found ?? [])].filter(([id]) => !kept.has(id)).map(([, command]) => command));
  const others = foundExecs(container).filter((execId) => !kept.has(execId));
  for (const execId of others) if (finished.has(execId)) exec.lingering.add(execId);
  removeLingeringGroups(exec);
  const strays = others.filter((execId) => !exec.lingering.has(execId) && !finished.has(execId));
  await Promise.all(strays.map((execId) => container.cgroups.killExec(execId, limits.killTimeoutMs)));
}

function userOf({ image, state }: Running, request: ExecRequest): UserIds {
  return resolveUser(request.user ?? image.config.user, (path) => readBoxText(state.init.pid, path));
}

/** Adds the image's variables to those of every box. An entry without `=` removes the variable, as in Docker. */
function withImageEnv(given: Readonly<Record<string, string>>, entries: readonly string[]): Record<string, string> {
  const env = new Map(Object.entries(given));
  for (const entry of entries) {
    const equals = entry.indexOf('=');
    if (equals < 0) env.delete(entry);
    else if (equals > 0) env.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return Object.fromEntries(env);
}
