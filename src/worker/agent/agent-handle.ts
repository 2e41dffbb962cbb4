// The driver's handle of a command that the agent of the box starts. What differs between the engines is in
// CommandPlace: how a whole command is killed, and what its end means when the agent is gone. If the result of a start
// is null, nothing of the command has run, and the ordinary path may start it.
import { constants } from 'node:os';
import { settledWithin, withDeadline } from '../../shared/waiting/clock.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { ExecExit, ExecHandle } from '../drivers/driver-contract.ts';
import { AgentGone, StartRefused, type AgentCommand } from './agent-command.ts';

export interface CommandPlace {
  /** Kills all processes of the command. Resolves when none is left. */
  killTree(): Promise<void>;
  /** True when a process of the command lives. */
  hasChildren(): Promise<boolean>;
  /** The agent has ended, and with it the exit code of the command. Kills the command and returns how it ended. */
  killLost(lost: ExecExit): Promise<ExecExit>;
  /** Called once, when the leader has ended. */
  onEnd(): void;
}

export const killedExit: ExecExit = { exitCode: 128 + constants.signals.SIGKILL };

/**
 * Waits until the agent has started the command. Returns null if the agent cannot start it.
 * @throws RUNTIME_ERROR when the command was killed before it began, or may have run; TIMEOUT
 */
export async function handleOfStart(
  place: CommandPlace,
  execId: string,
  started: AgentCommand,
  log: Logger,
): Promise<ExecHandle | null> {
  faultPoint('worker.exec.ordered');
  try {
    await withDeadline(started.begun, limits.execStartTimeoutMs, `starting ${execId}`);
    return handleOf(place, started);
  } catch (error) {
    await place.killTree();
    for (const output of [started.stdout, started.stderr]) output.destroy();
    if (error instanceof AgentGone) {
      // The command may have begun: the agent tells it only afterwards. So nothing may start it a second time.
      throw new BoxRunError('RUNTIME_ERROR', `${error.message} while it was starting the command, which may have run`, {
        hint: 'start the command again if it may run twice',
        cause: error,
      });
    }
    if (!canTakeOrdinaryPath(error)) throw error;
    log.warn({ err: error, execId }, 'the agent did not start a command; the ordinary path will');
    return null;
  }
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

/**
 * Ends commands of an earlier worker that do not go on. An upload is one of them: when its input ends, it removes what
 * it has written. So these commands have a moment before the caller kills them.
 */
export async function endFound(commands: readonly AgentCommand[]): Promise<void> {
  const readers = commands.filter(({ endsWithInput }) => endsWithInput);
  for (const { stdin } of readers) stdin?.end();
  for (const command of commands) command.forget();
  await settledWithin(Promise.all(readers.map(({ exit }) => exit)), limits.strayInputEndMs);
}

export function handleOf(place: CommandPlace, started: AgentCommand): ExecHandle {
  let reportKilled: (exit: ExecExit) => void = () => undefined;
  const unreportedKill = new Promise<ExecExit>((resolve) => {
    reportKilled = resolve;
  });
  const exit = Promise.race([
    started.exit.then((how) => ('lost' in how ? place.killLost(how) : how)),
    unreportedKill,
  ]).then((how) => {
    place.onEnd();
    return how;
  });
  return {
    stdout: started.stdout,
    stderr: started.stderr,
    stdin: started.stdin,
    exit,
    usage: () => (started.usage === null ? null : { ...started.usage, throttledSeconds: null }),
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
    hasChildren: () => place.hasChildren(),
    async killTree() {
      await place.killTree();
      // No process of the command is alive, even if the agent cannot report it.
      if (!(await settledWithin(exit, limits.commandEndReportMs))) reportKilled(killedExit);
    },
  };
}
