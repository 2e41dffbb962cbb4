// The commands create, ls, start, stop, rm and gc: they create, list, start, stop and remove boxes.
// Each command sends one request. `--json` prints the answer of the server unchanged, except for rm.
import {
  boxInput,
  boxOptions,
  imagePositional,
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
  describe: 'create a box, start it, and print its id',
  positionals: { image: imagePositional },
  options: {
    name: { type: 'text', alias: 'n', describe: 'name of the box' },
    ...boxOptions,
    'stop-grace': stopGraceOption,
    label: { type: 'list', alias: 'l', describe: 'label, KEY=VALUE, to find the box by; may be repeated' },
    quiet: quietOption,
    json: jsonOption,
  },
  examples: [
    ['create base --name web --cpu 1 --memory 256', 'a box with the name web'],
    ['create base -n site --cpu 1 -v .:/srv:ro -e STAGE=test', 'a box with this directory in /srv, and a variable'],
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
    status: {
      type: 'text',
      alias: 's',
      choices: statuses,
      default: 'all',
      describe: 'list only boxes with this status',
    },
    label: {
      type: 'list',
      alias: 'l',
      describe: 'list only boxes with this label, KEY or KEY=VALUE; may be repeated',
    },
    quiet: quietOption,
    json: jsonOption,
  },
  examples: [
    ['ls -s running', 'the running boxes'],
    ['ls -q', 'only the ids'],
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
  describe: 'how long to wait for its processes to end before they are killed, in seconds',
} as const;

export const startCommand = defineCommand({
  name: 'start',
  describe: 'start a stopped box',
  positionals: { box: { describe: 'id or name', required: true, kind: 'stoppedBox' } },
  options: { json: jsonOption },
  examples: [['start web', 'start the box web']],
  async run({ box, json }, { withClient }) {
    return withClient(async (client) => printStatus(await client.startBox(box), json));
  },
});

export const stopCommand = defineCommand({
  name: 'stop',
  describe: 'stop a running box, and keep its disk',
  positionals: { box: { describe: 'id or name', required: true, kind: 'runningBox' } },
  options: { grace: { ...graceOption, shownDefault: '--stop-grace of the box, else 5' }, json: jsonOption },
  examples: [['stop --grace 30 web', 'give its processes 30 s to end']],
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
    force: { type: 'flag', alias: 'f', describe: 'remove the box even if it runs' },
    grace: { ...graceOption, default: '1' },
    json: jsonOption,
  },
  examples: [['rm -f web', 'stop and remove the box web']],
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
  describe: 'remove boxes that have been stopped or failed for a long time',
  options: {
    'older-than': { type: 'text', default: '3600', describe: 'remove only boxes older than this, in seconds' },
    json: jsonOption,
  },
  examples: [['gc --older-than 86400', 'boxes that stopped or failed more than a day ago']],
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
