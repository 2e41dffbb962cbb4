// exec and run: commands in boxes. Output passes through byte by byte as it comes, and the exit code becomes our own.
// Ctrl-C ends the command in the box too.
import { boxInput, boxOptions, envOption, jsonOption } from '../box-options.ts';
import { defineCommand } from '../command.ts';
import { parseAssignments, parseSeconds } from '../options.ts';
import { printJson, printLines } from '../render.ts';

const timeoutOption = { type: 'text', alias: 't', describe: 'kill it after so many seconds' } as const;

export const execCommand = defineCommand({
  name: 'exec',
  describe: 'run a command in a box: boxrun exec BOX -- COMMAND ...',
  positionals: { box: { describe: 'id or name', required: true, kind: 'runningBox' } },
  options: {
    detach: { type: 'flag', alias: 'd', describe: 'do not wait; prints the id of the command' },
    timeout: timeoutOption,
    env: envOption,
    workdir: { type: 'text', alias: 'w', describe: 'run it in this directory of the box', shownDefault: "the box's" },
  },
  takesCommand: 'exec web -- ls -l',
  examples: [
    ['exec web -- sh -c "echo hello; exit 3"', 'everything after -- is the command; exits with 3'],
    ['exec -t 5 -e NAME=you -w /tmp web -- sh -c \'echo "$NAME in $(pwd)"\'', 'with a variable, in a directory, for 5 s at most'],
  ],
  async run({ box, detach, timeout, env, workdir }, { command, interrupts, withClient }) {
    const input = {
      cmd: [...command],
      ...(timeout === undefined ? {} : { timeout_ms: parseSeconds('timeout', timeout) }),
      ...(env.length === 0 ? {} : { env: parseAssignments('env', env) }),
      ...(workdir === undefined ? {} : { workdir }),
    };
    return withClient(async (client) => {
      const interrupt = interrupts.catch();
      try {
        const exec = await client.startExec(box, input);
        if (!detach) return await (await import('../output.ts')).followExec(client, exec, interrupt);
        printLines(exec.id);
        return 0;
      } finally {
        interrupt.release();
      }
    });
  },
});

export const runCommand = defineCommand({
  name: 'run',
  describe: 'run one command in a box of its own: boxrun run IMAGE -- COMMAND ...',
  positionals: { image: { describe: 'image, alias or imported image', required: true, kind: 'image' } },
  options: { timeout: timeoutOption, ...boxOptions, json: jsonOption },
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
      const { exitCodeOf, passOn } = await import('../output.ts');
      try {
        const result = await client.run(input, { signal: interrupt.signal });
        if (values.json) {
          printJson(result);
        } else {
          await passOn(process.stdout, Buffer.from(result.stdout), interrupt.signal);
          await passOn(process.stderr, Buffer.from(result.stderr), interrupt.signal);
        }
        return exitCodeOf(result.exit_code, result.error_message);
      } catch (error) {
        if (!interrupt.signal.aborted) throw error;
        if (!interrupt.isQuiet()) process.stderr.write('\nboxrun: canceled; the box is removed\n');
        return interrupt.exitCode();
      } finally {
        interrupt.release();
      }
    });
  },
});
