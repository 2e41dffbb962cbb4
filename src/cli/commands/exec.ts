// The command exec: runs a command in a box. Output passes through unchanged as it is written, and the exit code of the
// command becomes our own. Ctrl-C cancels the command. But if the command is connected to our terminal, it gets Ctrl-C
// as a key.
import { defineCommand } from '../parsing/command.ts';
import { execOptions } from '../parsing/exec-options.ts';
import { timeoutOrTty } from '../parsing/options.ts';
import { printLines } from '../render/render.ts';

export const execCommand = defineCommand({
  name: 'exec',
  describe: 'run a command in a box: boxrun exec BOX COMMAND ...',
  positionals: { box: { describe: 'id or name', required: true, kind: 'runningBox' } },
  options: {
    ...execOptions,
  },
  takesCommand: 'exec web ls -l',
  reword: timeoutOrTty,
  examples: [
    ['exec web sh -c "echo hello; exit 3"', 'everything after the box is the command; exit code 3'],
    ['exec -t 5 -e NAME=you -w /tmp web sh -c \'echo "$NAME in $(pwd)"\'', 'with a variable, in /tmp, for at most 5 s'],
    ['exec -i web wc -c < notes.txt', 'with input from a file or a pipe'],
    ['exec -it web vi notes.txt', 'in this terminal; Ctrl-P Ctrl-Q leaves the command running'],
  ],
  async run(values, { command, interrupts, withClient }) {
    const { readExecStart, runExec } = await import('../terminal/exec-start.ts');
    const { withBox } = await import('../server/id-prefixes.ts');
    const exec = await readExecStart(command, values);
    return withClient(async (client) => {
      const start = () => withBox(client, values.box, (box) => client.startExec(box, exec.body));
      if (!values.detach) return (await runExec(client, exec, interrupts, start)).exitCode;
      printLines((await start()).id);
      return 0;
    });
  },
});
