// Starts a command in a box and follows it: its output becomes ours, and our input or terminal may be connected to it.
// A wrong option is a usage error, before any request is sent.
import type { BoxRunClient, Exec } from '../../sdk/index.ts';
import type { ExecBody } from '../../shared/api.ts';
import type { Interrupts } from '../interrupt.ts';
import type { Values } from '../parsing/command.ts';
import { parseDetachKeys } from '../parsing/detach-keys.ts';
import { parseVariables } from '../parsing/environment.ts';
import type { execOptions } from '../parsing/exec-options.ts';
import { parseSeconds, parseUser, UsageError } from '../parsing/options.ts';
import type { ExecInput } from '../render/command-output.ts';

/** A command to start, and how our input takes part. */
export interface ExecStart {
  readonly body: ExecBody;
  /** Whether our input goes to the command. */
  readonly hasInput: boolean;
  /** The keys that leave our terminal; null if our input is no terminal for the command. */
  readonly detachKeys: readonly number[] | null;
}

/** @throws UsageError */
export async function readExecStart(
  command: readonly string[],
  values: Values<object, typeof execOptions>,
): Promise<ExecStart> {
  const { tty, timeout, workdir, user } = values;
  const { hasInput, isTerminal } = inputHere(values);
  const detachKeys = parseDetachKeys(values['detach-keys']);
  const given = parseVariables(values.env, values['env-file']);
  const terminal = tty ? (await import('./local-terminal.ts')).terminalHere() : null;
  const variables = { ...(terminal?.term === undefined ? {} : { TERM: terminal.term }), ...given };
  const body = {
    cmd: [...command],
    ...(timeout === undefined ? {} : { timeout_ms: parseSeconds('timeout', timeout) }),
    ...(Object.keys(variables).length === 0 ? {} : { env: variables }),
    ...(workdir === undefined ? {} : { workdir }),
    ...(user === undefined ? {} : { user: parseUser(user) }),
    ...(hasInput ? { stdin: true } : {}),
    ...(terminal === null ? {} : { tty, cols: terminal.cols, rows: terminal.rows }),
  };
  return { body, hasInput, detachKeys: isTerminal ? detachKeys : null };
}

/** Whether our input goes to the command, and whether our terminal is connected to a terminal of the command. */
function inputHere({ interactive, tty, detach }: { interactive: boolean; tty: boolean; detach: boolean }): {
  hasInput: boolean;
  isTerminal: boolean;
} {
  if (detach && interactive)
    throw new UsageError('choose one of --detach and --interactive; with --detach, no input can be sent');
  const isTerminal = tty && !detach && process.stdin.isTTY;
  if (interactive && tty && !isTerminal)
    throw new UsageError('-i with -t needs a terminal; use -i without -t to pass on input from a pipe or a file');
  return { hasInput: interactive || isTerminal, isTerminal };
}

/**
 * Starts a command and follows it to its end.
 * @param start sends the request
 * @returns its exit code, and whether the user left it with the detach keys
 */
export async function runExec(
  client: BoxRunClient,
  { hasInput, detachKeys }: ExecStart,
  interrupts: Interrupts,
  start: () => Promise<Exec>,
): Promise<{ readonly exitCode: number; readonly isDetached: boolean }> {
  const interrupt = interrupts.catch();
  let fed: ExecInput | null = null;
  try {
    const exec = await start();
    const [{ feedExec }, { detached, followExec }] = await Promise.all([
      import('./exec-input.ts'),
      import('../render/command-output.ts'),
    ]);
    fed = hasInput ? await feedExec(client, exec, detachKeys) : null;
    const exitCode = await followExec(client, exec, interrupt, fed);
    return { exitCode, isDetached: fed?.over.reason === detached };
  } finally {
    fed?.release();
    interrupt.release();
  }
}
