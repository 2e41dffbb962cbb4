// create, ls, start, stop, rm, gc: the life of boxes from the command line.
// Each asks the server once; `--json` gives the server's own words.
import {
  boxInput,
  boxOptions,
  jsonOption,
  quietOption,
  stopGraceInput,
  stopGraceOption,
} from '../parsing/box-options.ts';
import type { Box } from '../../sdk/index.ts';
import { defineCommand } from '../parsing/command.ts';
import { parseAssignments, parseGrace, parseWhole } from '../parsing/options.ts';
import { createProgressLine, printJson, printLines, renderBoxes } from '../render/render.ts';

export const createCommand = defineCommand({
  name: 'create',
  describe: 'create a box and start it; prints its id',
  positionals: { image: { describe: 'image, alias or imported image', default: 'default', kind: 'image' } },
  options: {
    name: { type: 'text', alias: 'n', describe: 'a name to call it by' },
    ...boxOptions,
    'stop-grace': stopGraceOption,
    label: { type: 'list', alias: 'l', describe: 'note KEY=VALUE on it, to find it by; may be repeated' },
    quiet: quietOption,
    json: jsonOption,
  },
  examples: [
    ['create base --name web --cpu 1 --memory 256', 'a box called web'],
    ['create base -n site --cpu 1 -v .:/srv:ro -e STAGE=test', 'one that sees this directory, and a variable'],
  ],
  async run(values, { withClient }) {
    const input = {
      ...boxInput(values.image, values),
      ...stopGraceInput(values['stop-grace']),
      ...(values.name === undefined ? {} : { name: values.name }),
      ...(values.label.length === 0 ? {} : { labels: parseAssignments('label', values.label) }),
    };
    return withClient(async (client) => {
      const progress = createProgressLine(process.stderr);
      try {
        const onProgress = ({ message }: { message: string }) => {
          progress.show(message);
        };
        const box = await client.create(input, process.stderr.isTTY ? { onProgress } : {});
        progress.clear();
        if (values.json) printJson(box);
        else printLines(box.id, ...(values.quiet ? [] : [`Name: ${box.name ?? '-'}`, `Status: ${box.status}`]));
      } finally {
        progress.clear();
      }
      return 0;
    });
  },
});

const statuses = ['creating', 'running', 'stopped', 'error', 'all'] as const;

export const listCommand = defineCommand({
  name: 'ls',
  describe: 'list boxes, newest first',
  options: {
    status: { type: 'text', alias: 's', choices: statuses, default: 'all', describe: 'only of this status' },
    label: { type: 'list', alias: 'l', describe: 'only with this label, KEY or KEY=VALUE; may be repeated' },
    quiet: quietOption,
    json: jsonOption,
  },
  examples: [
    ['ls -s running', 'the running ones'],
    ['ls -q', 'their ids'],
  ],
  async run({ status, label, quiet, json }, { withClient }) {
    return withClient(async (client) => {
      const boxes = await client.listBoxes({ ...(status === 'all' ? {} : { status }), labels: label });
      if (json) printJson(boxes);
      else if (quiet) printLines(...boxes.map(({ id }) => id));
      else process.stdout.write(renderBoxes(boxes, Date.now(), process.stdout.columns));
      return 0;
    });
  },
});

const graceOption = {
  type: 'text',
  describe: 'seconds in which processes may end by themselves, before they are killed',
} as const;

export const startCommand = defineCommand({
  name: 'start',
  describe: 'start a stopped box',
  positionals: { box: { describe: 'id or name', required: true, kind: 'stoppedBox' } },
  options: { json: jsonOption },
  examples: [['start web', 'start the box called web']],
  async run({ box, json }, { withClient }) {
    return withClient(async (client) => printStatus(await client.startBox(box), json));
  },
});

export const stopCommand = defineCommand({
  name: 'stop',
  describe: 'stop a running box; its disk stays',
  positionals: { box: { describe: 'id or name', required: true, kind: 'runningBox' } },
  options: { grace: { ...graceOption, shownDefault: "the box's, else 5" }, json: jsonOption },
  examples: [['stop --grace 30 web', 'its processes have 30 s to end by themselves']],
  async run({ box, grace, json }, { withClient }) {
    const options = grace === undefined ? {} : { graceS: parseGrace('grace', grace) };
    return withClient(async (client) => printStatus(await client.stopBox(box, options), json));
  },
});

function printStatus(box: Box, json: boolean): number {
  if (json) printJson(box);
  else printLines(box.id, `Status: ${box.status}`);
  return 0;
}

export const removeCommand = defineCommand({
  name: 'rm',
  describe: 'remove a box with its disk',
  positionals: { box: { describe: 'id or name', required: true, kind: 'box' } },
  options: {
    force: { type: 'flag', alias: 'f', describe: 'even when it is running' },
    grace: { ...graceOption, default: '1' },
    json: jsonOption,
  },
  examples: [['rm -f web', 'stop and remove the box called web']],
  async run({ box, force, grace, json }, { withClient }) {
    const graceS = parseGrace('grace', grace);
    return withClient(async (client) => {
      await client.removeBox(box, { force, graceS });
      if (json) printJson({ removed: box });
      else printLines(`Removed: ${box}`);
      return 0;
    });
  },
});

export const gcCommand = defineCommand({
  name: 'gc',
  describe: 'remove boxes that are stopped or failed for long',
  options: {
    'older-than': { type: 'text', default: '3600', describe: 'for longer than so many seconds' },
    json: jsonOption,
  },
  examples: [['gc --older-than 86400', 'those of yesterday']],
  async run(values, { withClient }) {
    const olderThanS = parseWhole('older-than', values['older-than'], 0);
    return withClient(async (client) => {
      const result = await client.gc(olderThanS);
      if (values.json) printJson(result);
      else printLines(`Removed: ${result.removed}`);
      return 0;
    });
  },
});
