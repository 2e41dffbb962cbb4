// attach and shell: a terminal in a box. The shell's exit code becomes our own, and this terminal is as it was before.
// Ctrl-P Ctrl-Q leaves without waiting for the shell.
import { boxInput, boxOptions, detachKeysOption, stopGraceInput, stopGraceOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { parseDetachKeys } from '../terminal/detach-keys.ts';
import { createProgressLine } from '../render/render.ts';

const shellOption = { type: 'text', describe: 'program to run', shownDefault: '/bin/bash, else /bin/sh' } as const;

export const attachCommand = defineCommand({
  name: 'attach',
  describe: 'open a terminal in a box; Ctrl-P Ctrl-Q leaves it, which ends its shell',
  positionals: { box: { describe: 'id or name', required: true, kind: 'runningBox' } },
  options: { shell: shellOption, 'detach-keys': detachKeysOption },
  examples: [['attach web --shell /bin/sh', 'a shell in the box called web']],
  async run({ box, shell, 'detach-keys': keys }, { interrupts, withClient }) {
    const { openHere, requireTerminal } = await import('../terminal/local-terminal.ts');
    requireTerminal();
    const detachKeys = parseDetachKeys(keys);
    return withClient(async (client) => (await openHere(client, box, { shell, detachKeys }, interrupts)).exitCode);
  },
});

export const shellCommand = defineCommand({
  name: 'shell',
  describe: 'create a box, open a terminal in it, and remove the box when the shell ends',
  positionals: { image: { describe: 'image, alias or imported image', default: 'default', kind: 'image' } },
  options: {
    name: { type: 'text', alias: 'n', describe: 'a name to call it by' },
    shell: shellOption,
    'detach-keys': detachKeysOption,
    keep: { type: 'flag', describe: 'leave the box as it is afterwards; Ctrl-P Ctrl-Q does so too' },
    'stop-grace': stopGraceOption,
    ...boxOptions,
  },
  examples: [['shell base --cpu 1 --memory 256', 'try something out; nothing of it stays']],
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
      const progress = createProgressLine(process.stderr);
      const onProgress = ({ message }: { message: string }) => {
        progress.show(message);
      };
      const box = await client.create(input, { onProgress }).finally(() => {
        progress.clear();
      });
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
