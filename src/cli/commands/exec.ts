// The commands exec and run: they run a command in a box. Output passes through unchanged as it is written, and the
// exit code of the command becomes our own. Ctrl-C cancels the command. But if the command is connected to our
// terminal, it gets Ctrl-C as a key.
import {
  boxInput,
  boxOptions,
  detachKeysOption,
  envOption,
  imagePositional,
  jsonOption,
} from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { parseDetachKeys } from '../parsing/detach-keys.ts';
import type { ExecInput } from '../render/command-output.ts';
import { parseAssignments, parseSeconds, parseUser, timeoutOrTty, UsageError } from '../parsing/options.ts';
import { printJson, printLines } from '../render/render.ts';

const timeoutOption = { type: 'text', describe: 'kill the command after this time, in seconds' } as const;

export const execCommand = defineCommand({
  name: 'exec',
  describe: 'run a command in a box: boxrun exec BOX -- COMMAND ...',
  positionals: { box: { describe: 'id or name', required: true, kind: 'runningBox' } },
  options: {
    interactive: { type: 'flag', alias: 'i', describe: 'pass standard input on to the command' },
    tty: {
      type: 'flag',
      alias: 't',
      describe: 'run the command in a terminal: this one, if there is one (-t SECONDS means --timeout)',
    },
    'detach-keys': detachKeysOption,
    detach: { type: 'flag', alias: 'd', describe: 'do not wait for the command; print its id' },
    timeout: timeoutOption,
    env: envOption,
    workdir: { type: 'text', alias: 'w', describe: 'working directory in the box', shownDefault: "the box's" },
    user: {
      type: 'text',
      alias: 'u',
      describe: 'user in the box, NAME|ID[:GROUP]',
      shownDefault: "the image's",
    },
  },
  takesCommand: 'exec web -- ls -l',
  reword: timeoutOrTty,
  examples: [
    ['exec web -- sh -c "echo hello; exit 3"', 'everything after -- is the command; exit code 3'],
    [
      'exec -t 5 -e NAME=you -w /tmp web -- sh -c \'echo "$NAME in $(pwd)"\'',
      'with a variable, in /tmp, for at most 5 s',
    ],
    ['exec -i web -- wc -c < notes.txt', 'with input from a file or a pipe'],
    ['exec -it web -- vi notes.txt', 'in this terminal; Ctrl-P Ctrl-Q leaves the command running'],
  ],
  async run(
    { box, interactive, tty, detach, timeout, env, workdir, user, 'detach-keys': keys },
    { command, interrupts, withClient },
  ) {
    const { isFed, isTerminal } = inputHere({ interactive, tty, detach });
    const detachKeys = parseDetachKeys(keys);
    const terminal = tty ? (await import('../terminal/local-terminal.ts')).terminalHere() : null;
    const variables = {
      ...(terminal?.term === undefined ? {} : { TERM: terminal.term }),
      ...parseAssignments('env', env),
    };
    const input = {
      cmd: [...command],
      ...(timeout === undefined ? {} : { timeout_ms: parseSeconds('timeout', timeout) }),
      ...(Object.keys(variables).length === 0 ? {} : { env: variables }),
      ...(workdir === undefined ? {} : { workdir }),
      ...(user === undefined ? {} : { user: parseUser(user) }),
      ...(isFed ? { stdin: true } : {}),
      ...(terminal === null ? {} : { tty, cols: terminal.cols, rows: terminal.rows }),
    };
    return withClient(async (client) => {
      const interrupt = interrupts.catch();
      let fed: ExecInput | null = null;
      try {
        const exec = await client.startExec(box, input);
        if (detach) {
          printLines(exec.id);
          return 0;
        }
        const [{ feedExec }, { followExec }] = await Promise.all([
          import('../terminal/exec-input.ts'),
          import('../render/command-output.ts'),
        ]);
        fed = isFed ? await feedExec(client, exec, isTerminal ? detachKeys : null) : null;
        return await followExec(client, exec, interrupt, fed);
      } finally {
        fed?.release();
        interrupt.release();
      }
    });
  },
});

/** Whether our input goes to the command, and whether our terminal is connected to a terminal of the command. */
function inputHere({ interactive, tty, detach }: { interactive: boolean; tty: boolean; detach: boolean }): {
  isFed: boolean;
  isTerminal: boolean;
} {
  if (detach && interactive)
    throw new UsageError('choose one of --detach and --interactive; with --detach, no input can be sent');
  const isTerminal = tty && !detach && process.stdin.isTTY;
  if (interactive && tty && !isTerminal)
    throw new UsageError('-i with -t needs a terminal; use -i without -t to pass on input from a pipe or a file');
  return { isFed: interactive || isTerminal, isTerminal };
}

export const runCommand = defineCommand({
  name: 'run',
  describe: 'create a box, run one command in it, and remove it: boxrun run IMAGE -- COMMAND ...',
  positionals: { image: { describe: imagePositional.describe, required: true, kind: 'image' } },
  options: { timeout: { ...timeoutOption, alias: 't' }, ...boxOptions, json: jsonOption },
  takesCommand: 'run alpine -- ls -l',
  examples: [['run base --cpu 1 -- echo hello', 'the box is removed afterwards']],
  async run(values, { command, interrupts, withClient }) {
    const input = {
      ...boxInput(values.image, values),
      cmd: [...command],
      ...(values.timeout === undefined ? {} : { timeout_ms: parseSeconds('timeout', values.timeout) }),
    };
    return withClient(async (client) => {
      const interrupt = interrupts.catch();
      const { signal } = interrupt;
      try {
        if (!values.json)
          return await (await import('../render/command-output.ts')).followRun(client, input, interrupt);
        const result = await client.run(input, { signal });
        printJson(result);
        return (await import('../render/command-output.ts')).exitCodeOf(result.exit_code, result.error_message);
      } catch (error) {
        if (!signal.aborted) throw error;
        if (!interrupt.isQuiet()) process.stderr.write('\nboxrun: canceled; the box is removed\n');
        return interrupt.exitCode();
      } finally {
        interrupt.release();
      }
    });
  },
});
