// The commands start, stop, restart, kill and rm: they start, stop and remove boxes, one or several. kill also ends one
// command of a box. Each prints one line for each box.
import { jsonOption } from '../parsing/box-options.ts';
import type { Box, BoxRunClient } from '../../sdk/index.ts';
import { defineCommand, type CommandContext } from '../parsing/command.ts';
import { parseGrace, parseSignal, UsageError } from '../parsing/options.ts';
import { printJson, printLines } from '../render/render.ts';
import {
  checkTargets,
  findTargets,
  forEachBox,
  isOneBox,
  targetOptions,
  type TargetWords,
} from '../server/box-targets.ts';

const graceOption = {
  type: 'text',
  describe: 'how long to wait for its processes to end before they are killed, in seconds',
} as const;

/** Changes the state of boxes, and prints their new states. */
async function changeStates(
  words: TargetWords & { readonly json: boolean },
  fits: (box: Box) => boolean,
  change: (client: BoxRunClient, box: string) => Promise<Box>,
  { withClient }: CommandContext,
): Promise<number> {
  return withClient(async (client) => {
    const changed: Box[] = [];
    const isOne = isOneBox(words);
    const exitCode = await forEachBox(
      client,
      await findTargets(client, words, fits),
      (box) => change(client, box),
      (name, box) => {
        changed.push(box);
        if (words.json) return;
        if (isOne) printLines(box.id, `Status: ${box.status}`);
        else printLines(`${name}: ${box.status}`);
      },
    );
    if (words.json && !isOne) printJson(changed);
    else if (words.json && changed.length > 0) printJson(changed[0]);
    return exitCode;
  });
}

export const startCommand = defineCommand({
  name: 'start',
  describe: 'start stopped boxes',
  positionals: { box: { describe: 'id or name; several may follow', many: true, kind: 'stoppedBox' } },
  options: { ...targetOptions, json: jsonOption },
  examples: [['start web', 'start the box web']],
  async run(values, context) {
    checkTargets('start', values);
    const isStopped = ({ status }: Box) => status === 'stopped' || status === 'error';
    return changeStates(values, isStopped, (client, box) => client.startBox(box), context);
  },
});

const isUp = ({ status }: Box) => status === 'running';

export const stopCommand = defineCommand({
  name: 'stop',
  describe: 'stop running boxes, and keep their disks',
  positionals: { box: { describe: 'id or name; several may follow', many: true, kind: 'runningBox' } },
  options: {
    grace: { ...graceOption, shownDefault: '--stop-grace of the box, else 5' },
    ...targetOptions,
    json: jsonOption,
  },
  hints: { '-t': 'the time is called --grace here, as in: boxrun stop --grace 10 web' },
  examples: [
    ['stop --grace 30 web', 'give its processes 30 s to end'],
    ['stop -l team=docs', 'the running boxes with this label'],
  ],
  async run(values, context) {
    checkTargets('stop', values);
    const options = values.grace === undefined ? {} : { graceS: parseGrace('grace', values.grace) };
    return changeStates(values, isUp, (client, box) => client.stopBox(box, options), context);
  },
});

export const restartCommand = defineCommand({
  name: 'restart',
  describe: 'stop boxes if they run, and start them',
  positionals: { box: { describe: 'id or name; several may follow', many: true, kind: 'box' } },
  options: {
    grace: { ...graceOption, shownDefault: '--stop-grace of the box, else 5' },
    ...targetOptions,
    json: jsonOption,
  },
  hints: { '-t': 'the time is called --grace here, as in: boxrun restart --grace 10 web' },
  examples: [
    ['restart web', 'its commands end, its disk stays'],
    ['restart --all', 'all boxes that run'],
  ],
  async run(values, context) {
    checkTargets('restart', values);
    const options = values.grace === undefined ? {} : { graceS: parseGrace('grace', values.grace) };
    return changeStates(values, isUp, (client, box) => client.restartBox(box, options), context);
  },
});

export const removeCommand = defineCommand({
  name: 'rm',
  describe: 'remove boxes with their disks',
  positionals: { box: { describe: 'id or name; several may follow', many: true, kind: 'box' } },
  options: {
    force: { type: 'flag', alias: 'f', describe: 'remove also a box that runs, and do not ask' },
    grace: { ...graceOption, default: '1' },
    ...targetOptions,
    json: jsonOption,
  },
  hints: { '-v': 'the disk of a box is always removed with it' },
  examples: [
    ['rm -f web', 'stop and remove the box web'],
    ['rm -l team=docs', 'the stopped boxes with this label'],
  ],
  async run(values, { withClient }) {
    checkTargets('rm', values);
    const { force, json, all } = values;
    const graceS = parseGrace('grace', values.grace);
    const { ask, requireTerminalToAsk } = await import('../server/ask.ts');
    if (all && !force) requireTerminalToAsk('rm --all', 'rm -f --all');
    return withClient(async (client) => {
      const boxes = await findTargets(client, values, () => true);
      if (all && !force && boxes.length > 0 && !(await ask(`Remove ${boxes.length} boxes with their disks?`))) return 1;
      const removed: { readonly removed: string }[] = [];
      const exitCode = await forEachBox(
        client,
        boxes,
        (box) => client.removeBox(box, { force, graceS }),
        (name) => {
          removed.push({ removed: name });
          if (!json) printLines(`Removed: ${name}`);
        },
      );
      if (json && isOneBox(values)) removed.forEach(printJson);
      else if (json) printJson(removed);
      return exitCode;
    });
  },
});

export const killCommand = defineCommand({
  name: 'kill',
  describe: 'stop a box without a grace, or end one command of a box',
  positionals: {
    box: { describe: 'id or name', required: true, kind: 'runningBox' },
    exec: { describe: 'id of a command: ends only this one', kind: 'exec' },
  },
  options: {
    signal: {
      type: 'text',
      alias: 's',
      describe: 'signal for the command, such as TERM',
      shownDefault: 'KILL, for all its processes',
    },
    json: jsonOption,
  },
  examples: [
    ['kill web', 'stop the box web at once'],
    ['kill -s INT web "$(boxrun execs -q web | head -n 1)"', 'interrupt the newest command'],
  ],
  async run({ box, exec, signal, json }, context) {
    if (box.startsWith('exec_')) throw new UsageError(`name the box of the command too, as in: boxrun kill web ${box}`);
    if (exec === undefined) {
      if (signal !== undefined)
        throw new UsageError(
          'a signal goes to a command, as in: boxrun kill -s TERM web exec_…; see: boxrun execs web',
        );
      const words = { box: [box], label: [], all: false, json };
      return changeStates(words, isUp, (client, name) => client.stopBox(name, { graceS: 0 }), context);
    }
    const { withExec } = await import('../server/id-prefixes.ts');
    const name = signal === undefined ? undefined : parseSignal(signal);
    return context.withClient(async (client) => {
      const ended = await withExec(client, box, exec, (foundBox, found) =>
        name === undefined ? client.cancelExec(foundBox, found) : client.signalExec(foundBox, found, name),
      );
      if (json) printJson(ended);
      else printLines(`${ended.id}: ${ended.status}`);
      return 0;
    });
  },
});
