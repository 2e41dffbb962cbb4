// Commands in a running box: environment and user as the image, the box and the request say, each over the one before;
// and the end of commands that a predecessor of this worker left. Called by box.ts, in parallel.
import { constants } from 'node:os';
import { BoxRunError } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import { startable } from '../../argument-list.ts';
import type { ExecExit, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import { readBoxText } from './box-text.ts';
import { defaultPath } from '../box/bundle.ts';
import { startExec } from './runtime-exec.ts';
import { sweepLingering } from './exec-process.ts';
import type { Holding, Running } from '../box/holding.ts';
import { toolsInBox } from '../box/paths.ts';
import { isRunnerOfThisWorker } from '../runner/runner.ts';
import { resolveUser, type UserIds } from './users.ts';

/** Exit code of what SIGKILL ended, be it the command or the child for which it waited. */
const killedCode = 128 + constants.signals.SIGKILL;

/** @throws BOX_NOT_RUNNING */
export function needRunning({ running, context }: Holding): Running {
  if (running !== null) return running;
  throw new BoxRunError('BOX_NOT_RUNNING', `the box ${context.spec.boxId} is not running`);
}

export async function execInBox(holding: Holding, request: ExecRequest): Promise<ExecHandle> {
  const { spec } = holding.context;
  const { cgroups } = holding;
  const current = needRunning(holding);
  const { own, image, exec } = current;
  own.add(request.execId);
  try {
    const user = userOf(current, request);
    const given = { PATH: defaultPath, ...(request.tty === null ? {} : { TERM: request.tty.term }) };
    const env = { HOME: user.home, ...withImageEnv(given, image.config.env), ...spec.env, ...request.env };
    const killsBefore = cgroups.oomKills();
    const command = startable(
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
    const exit = handle.exit.then((how) => {
      own.delete(request.execId);
      return withMemoryKills(how, cgroups.oomKills() - killsBefore, spec.memoryMb);
    });
    return { ...handle, exit };
  } catch (error) {
    own.delete(request.execId);
    throw error;
  }
}

/**
 * The kernel counts its kills for the whole box, so of a command that was not killed itself this says no more than what
 * happened meanwhile.
 */
function withMemoryKills(exit: ExecExit, kills: number, memoryMb: number): ExecExit {
  if (kills <= 0 || 'lost' in exit) return exit;
  const what =
    exit.exitCode === killedCode
      ? 'the kernel killed it'
      : `while it ran, the kernel killed ${kills} of the processes of its box`;
  return { ...exit, outOfMemory: `out of memory: ${what}; the box has ${memoryMb} MiB` };
}

/** What a predecessor started, by the control groups that are there. */
export function foundExecs(holding: Holding): string[] {
  const { own } = needRunning(holding);
  return holding.cgroups.execIds().filter((execId) => !own.has(execId) && !isRunnerOfThisWorker(execId));
}

export async function killStrayExecs(holding: Holding, finished: ReadonlySet<string>): Promise<void> {
  const { exec } = needRunning(holding);
  const others = foundExecs(holding);
  for (const execId of others) if (finished.has(execId)) exec.lingering.add(execId);
  sweepLingering(exec);
  const strays = others.filter((execId) => !exec.lingering.has(execId) && !finished.has(execId));
  await Promise.all(strays.map((execId) => holding.cgroups.killExec(execId, limits.killTimeoutMs)));
}

function userOf({ image, state }: Running, request: ExecRequest): UserIds {
  return resolveUser(request.user ?? image.config.user, (path) => readBoxText(state.init.pid, path));
}

/** What an image sets, on top of what a box has anyway. An entry without `=` takes the variable away, as in Docker. */
function withImageEnv(given: Readonly<Record<string, string>>, entries: readonly string[]): Record<string, string> {
  const env = new Map(Object.entries(given));
  for (const entry of entries) {
    const equals = entry.indexOf('=');
    if (equals < 0) env.delete(entry);
    else if (equals > 0) env.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return Object.fromEntries(env);
}
