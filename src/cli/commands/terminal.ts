// The commands attach and shell: they open a terminal in a box. The exit code of the shell becomes our own, and this
// terminal gets its old modes back. Ctrl-P Ctrl-Q leaves at once and ends the shell; the box stays, also that of
// `shell`.
import {
  boxInput,
  boxOptions,
  detachKeysOption,
  imagePositional,
  nameOption,
  stopGraceInput,
  stopGraceOption,
} from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { UsageError } from '../parsing/options.ts';
import { parseDetachKeys } from '../parsing/detach-keys.ts';

const shellOption = {
  type: 'text',
  describe: 'program to run in the terminal',
  shownDefault: '/bin/bash, else /bin/sh',
} as const;

export const attachCommand = defineCommand({
  name: 'attach',
  describe: 'open a terminal in a box, or come back to one that you have left: boxrun exec -it --detachable',
  positionals: {
    box: { describe: 'id or name', required: true, kind: 'runningBox' },
    exec: { describe: 'id of the command that has the terminal; a new shell when absent', kind: 'exec' },
  },
  options: { shell: shellOption, 'detach-keys': detachKeysOption },
  examples: [
    ['attach web --shell /bin/sh', 'a new shell in the box web; Ctrl-P Ctrl-Q leaves it and ends it'],
    ['attach web exec_Ab3dEf', 'the terminal of this command; Ctrl-P Ctrl-Q leaves it, and it goes on'],
  ],
  async run({ box, exec: execId, shell, 'detach-keys': keys }, { interrupts, withClient }) {
    if (execId !== undefined && shell !== undefined)
      throw new UsageError('--shell is for a new terminal; leave EXEC or --shell out');
    const { attachHere, openHere, requireTerminal } = await import('../terminal/local-terminal.ts');
    requireTerminal();
    const detachKeys = parseDetachKeys(keys);
    const { withBox, withExec } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      if (execId !== undefined) {
        const exec = await withExec(client, box, execId, (foundBox, found) => client.getExec(foundBox, found));
        return attachHere(client, exec, detachKeys, interrupts);
      }
      const { id } = await withBox(client, box, (name) => client.getBox(name));
      return (await openHere(client, id, { shell, detachKeys }, interrupts)).exitCode;
    });
  },
});

export const shellCommand = defineCommand({
  name: 'shell',
  describe: 'create a box, open a terminal in it, and remove the box when the shell ends',
  positionals: { image: imagePositional },
  options: {
    name: nameOption,
    shell: shellOption,
    'detach-keys': detachKeysOption,
    keep: { type: 'flag', describe: 'do not remove the box; Ctrl-P Ctrl-Q keeps it too' },
    'stop-grace': stopGraceOption,
    ...boxOptions,
  },
  examples: [['shell base --cpu 1 --memory 256', 'try something in a box that is removed afterwards']],
  async run(values, { interrupts, withClient }) {
    const { openHere, requireTerminal } = await import('../terminal/local-terminal.ts');
    requireTerminal();
    const detachKeys = parseDetachKeys(values['detach-keys']);
    const input = {
      ...boxInput(values.image, values),
      ...stopGraceInput(values['stop-grace']),
      ...(values.name === undefined ? {} : { name: values.name }),
    };
    return withClient(async (client) => {
      const { createOwnBox } = await import('../terminal/own-box.ts');
      const created = await createOwnBox(client, input, interrupts);
      if ('exitCode' in created) return created.exitCode;
      const { box } = created;
      let isKept = values.keep;
      try {
        const { exitCode, isDetached } = await openHere(
          client,
          box.id,
          { shell: values.shell, detachKeys },
          interrupts,
        );
        isKept ||= isDetached;
        return exitCode;
      } finally {
        if (isKept) process.stderr.write(`The box stays: boxrun attach ${box.name ?? box.id}\n`);
        else await client.removeBox(box.id, { force: true });
      }
    });
  },
});
