// The command exec: runs a command in a box. Output passes through unchanged as it is written, and the exit code of the
// command becomes our own. Ctrl-C cancels the command. But if the command is connected to our terminal, it gets Ctrl-C
// as a key.
import type { ExecStart } from '../terminal/exec-start.ts';
import { defineCommand, type CommandContext } from '../parsing/command.ts';
import { execOptions } from '../parsing/exec-options.ts';
import { timeoutOrTty, UsageError } from '../parsing/options.ts';
import { printLines } from '../render/render.ts';

export const execCommand = defineCommand({
  name: 'exec',
  describe: 'run a command in a box: boxrun exec BOX COMMAND ...',
  positionals: { box: { describe: 'id or name', required: true, kind: 'runningBox' } },
  options: {
    ...execOptions,
    detachable: {
      type: 'flag',
      describe: 'with -t: the terminal goes on when you leave; to come back: boxrun attach BOX EXEC',
    },
  },
  takesCommand: 'exec web ls -l',
  reword: timeoutOrTty,
  examples: [
    ['exec web sh -c "echo hello; exit 3"', 'everything after the box is the command; exit code 3'],
    ['exec -t 5 -e NAME=you -w /tmp web sh -c \'echo "$NAME in $(pwd)"\'', 'with a variable, in /tmp, for at most 5 s'],
    ['exec -i web wc -c < notes.txt', 'with input from a file or a pipe'],
    ['exec -it web vi notes.txt', 'in this terminal; Ctrl-P Ctrl-Q leaves the command running'],
    ['exec -it --detachable web sh', 'a shell to come back to, with boxrun attach web EXEC'],
  ],
  async run(values, context) {
    const { command, interrupts, withClient } = context;
    const { readExecStart, runExec } = await import('../terminal/exec-start.ts');
    const { withBox } = await import('../server/id-prefixes.ts');
    const exec = await readExecStart(command, values);
    if (values.detachable) return runDetachable(exec, values, context);
    return withClient(async (client) => {
      const start = () => withBox(client, values.box, (box) => client.startExec(box, exec.body));
      if (!values.detach) return (await runExec(client, exec, interrupts, start)).exitCode;
      printLines((await start()).id);
      return 0;
    });
  },
});

/** Leaving does not end the terminal, however the user leaves: with the detach keys, or when this process ends. */
async function runDetachable(
  { body, detachKeys }: ExecStart,
  { box, detach, tty }: { readonly box: string; readonly detach: boolean; readonly tty: boolean },
  { interrupts, withClient }: CommandContext,
): Promise<number> {
  if (!tty) throw new UsageError('--detachable needs a terminal; add -t');
  if (!detach && detachKeys === null)
    throw new UsageError('--detachable needs a terminal here; with -d it starts without one');
  const [{ withBox }, { attachHere }] = await Promise.all([
    import('../server/id-prefixes.ts'),
    import('../terminal/local-terminal.ts'),
  ]);
  return withClient(async (client) => {
    const exec = await withBox(client, box, (name) => client.startExec(name, { ...body, detachable: true }));
    if (detach) printLines(exec.id);
    return detach ? 0 : attachHere(client, exec, detachKeys ?? [], interrupts);
  });
}
