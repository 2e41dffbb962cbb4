// The command run: runs a command in a box of its own, which is removed afterwards. With input, a terminal, a user or a
// name it creates the box itself, because a request for a run has none of them. With -d the box stays.
import { boxInput, boxOptions, imagePositional, jsonOption, labelOption, nameOption } from '../parsing/box-options.ts';
import type { BoxRunClient, CreateBoxInput } from '../../sdk/index.ts';
import { defineCommand, type CommandContext } from '../parsing/command.ts';
import { execOptions } from '../parsing/exec-options.ts';
import { optionBeforeNumber, parseAssignments, timeoutOrTty, UsageError } from '../parsing/options.ts';
import { printJson, printLines } from '../render/render.ts';
import type { ExecStart } from '../terminal/exec-start.ts';

const diskOrDetach = optionBeforeNumber('d', '--disk', 'it');

export const runCommand = defineCommand({
  name: 'run',
  describe: 'create a box, run one command in it, and remove it: boxrun run IMAGE COMMAND ...',
  positionals: { image: { describe: imagePositional.describe, required: true, kind: 'image' } },
  options: {
    ...execOptions,
    detach: {
      type: 'flag',
      alias: 'd',
      describe: 'start the command, print the ids of box and command, and keep the box (-d GIB means --disk)',
    },
    rm: { type: 'flag', describe: 'remove the box afterwards, as it is done without this flag' },
    name: nameOption,
    label: labelOption,
    ...boxOptions,
    disk: { type: 'text', default: '8', describe: boxOptions.disk.describe },
    json: jsonOption,
  },
  takesCommand: 'run alpine ls -l',
  reword: (word, next) => timeoutOrTty(word, next) ?? diskOrDetach(word, next),
  examples: [
    ['run base --cpu 1 -- echo hello', 'the box is removed afterwards'],
    ['run -it base sh', 'a shell in a box that is removed afterwards'],
    ['run -d --name web base sleep 60', 'the box stays; see: boxrun logs web'],
  ],
  async run(values, context) {
    if (values.rm && values.detach)
      throw new UsageError('with -d the box stays, so --rm is not possible; later: boxrun rm -f BOX');
    const { readExecStart } = await import('../terminal/exec-start.ts');
    const exec = await readExecStart(context.command, values);
    const box = {
      ...boxInput(values.image, values),
      ...(values.name === undefined ? {} : { name: values.name }),
      ...(values.label.length === 0 ? {} : { labels: parseAssignments('label', values.label) }),
    };
    if (values.detach) return context.withClient((client) => runDetached(client, box, exec, values.json, context));
    const { tty, workdir, user, name, label } = values;
    const needsOwnBox =
      exec.hasInput || tty || workdir !== undefined || user !== undefined || name !== undefined || label.length > 0;
    if (!needsOwnBox) return runOnServer(box, exec, values.json, context);
    if (values.json)
      throw new UsageError('--json does not go with -i, -t, -w, -u, --name or --label; see: boxrun exec and logs');
    return context.withClient((client) => runHere(client, box, exec, context));
  },
});

/** The server creates the box and removes it, also if this process dies. */
async function runOnServer(
  box: CreateBoxInput,
  { body }: ExecStart,
  json: boolean,
  { interrupts, withClient }: CommandContext,
): Promise<number> {
  const input = { ...box, cmd: body.cmd, ...(body.timeout_ms === undefined ? {} : { timeout_ms: body.timeout_ms }) };
  return withClient(async (client) => {
    const interrupt = interrupts.catch();
    const { signal } = interrupt;
    try {
      if (!json) return await (await import('../render/command-output.ts')).followRun(client, input, interrupt);
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
}

/** Our process creates the box and removes it. The detach keys keep it. */
async function runHere(
  client: BoxRunClient,
  input: CreateBoxInput,
  exec: ExecStart,
  { interrupts }: CommandContext,
): Promise<number> {
  const { runExec } = await import('../terminal/exec-start.ts');
  const { createOwnBox } = await import('../terminal/own-box.ts');
  const created = await createOwnBox(client, input, interrupts);
  if ('exitCode' in created) return created.exitCode;
  const { box } = created;
  let isKept = false;
  try {
    const { exitCode, isDetached } = await runExec(client, exec, interrupts, () => client.startExec(box.id, exec.body));
    isKept = isDetached;
    return exitCode;
  } finally {
    if (isKept) process.stderr.write(`The box stays: boxrun rm -f ${box.name ?? box.id}\n`);
    else await client.removeBox(box.id, { force: true });
  }
}

async function runDetached(
  client: BoxRunClient,
  input: CreateBoxInput,
  { body }: ExecStart,
  json: boolean,
  { interrupts }: CommandContext,
): Promise<number> {
  const { createOwnBox } = await import('../terminal/own-box.ts');
  const created = await createOwnBox(client, input, interrupts);
  if ('exitCode' in created) return created.exitCode;
  const { box } = created;
  try {
    const exec = await client.startExec(box.id, body);
    if (json) printJson({ box: box.id, exec: exec.id });
    else printLines(box.id, exec.id);
    return 0;
  } catch (error) {
    // The user does not know the id of this box, and it is of no use without its command.
    await client.removeBox(box.id, { force: true }).catch(() => undefined);
    throw error;
  }
}
