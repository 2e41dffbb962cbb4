// The commands create, ls, inspect, gc and prune: they create, list and show boxes, and remove old ones.
// `--json` prints the answer of the server unchanged.
import {
  boxInput,
  boxOptions,
  formatOption,
  imagePositional,
  jsonOption,
  labelOption,
  nameOption,
  noTruncOption,
  quietOption,
  stopGraceInput,
  stopGraceOption,
} from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { listFormOf } from '../parsing/format.ts';
import { parseAssignments, parseWhole } from '../parsing/options.ts';
import { printList } from '../render/list-output.ts';
import { printJson, printLines, renderBoxes } from '../render/render.ts';

export const createCommand = defineCommand({
  name: 'create',
  describe: 'create a box, start it, and print its id',
  positionals: { image: imagePositional },
  options: {
    name: nameOption,
    ...boxOptions,
    'stop-grace': stopGraceOption,
    label: labelOption,
    quiet: quietOption,
    json: jsonOption,
  },
  hints: {
    '-t': 'a box has no terminal of its own; see: boxrun exec -it BOX sh',
    '-i': 'a box has no input of its own; see: boxrun exec -it BOX sh',
    '--detach': 'a box always runs in the background; -d is the disk in GiB',
    '--rm': 'see: boxrun run',
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
      const { createWithProgress } = await import('../render/waiting.ts');
      const box = await createWithProgress(client, input);
      if (values.json) printJson(box);
      else printLines(box.id, ...(values.quiet ? [] : [`Name: ${box.name ?? '-'}`, `Status: ${box.status}`]));
      return 0;
    });
  },
});

const statuses = ['creating', 'running', 'stopped', 'error', 'all'] as const;

export const listCommand = defineCommand({
  name: 'ls',
  aliases: ['ps', 'list'],
  describe: 'list boxes, newest first, or the files in a directory of a box',
  positionals: { path: { describe: 'BOX:PATH lists files instead of boxes', kind: 'boxOrFile' } },
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
    all: { type: 'flag', alias: 'a', describe: 'list boxes of every status, also with --status' },
    'no-trunc': noTruncOption,
    format: formatOption,
    quiet: quietOption,
    json: jsonOption,
  },
  examples: [
    ['ls -s running', 'the running boxes'],
    ['ls -q', 'only the ids'],
    ["ls --format '{{.name}} {{.labels.team}}'", 'chosen fields; --json shows all of them'],
    ['ls web:/srv', 'the files in the directory /srv of the box web'],
  ],
  async run({ path, status, label, all, quiet, json, format, 'no-trunc': isWhole }, { withClient }) {
    const form = listFormOf({ json, quiet, format });
    return withClient(async (client) => {
      if (path !== undefined) {
        const { listFiles } = await import('../copy/list-files.ts');
        await listFiles(client, path, form, isWhole ? Infinity : undefined);
        return 0;
      }
      const isEvery = all || status === 'all';
      const boxes = await client.listBoxes({ ...(isEvery ? {} : { status }), labels: label });
      printList(boxes, form, {
        idOf: ({ id }) => id,
        table: () => renderBoxes(boxes, Date.now(), isWhole ? Infinity : undefined),
      });
      return 0;
    });
  },
});

export const inspectCommand = defineCommand({
  name: 'inspect',
  describe: 'print everything about boxes as JSON, with their running commands',
  positionals: { box: { describe: 'id or name; several may follow', many: true, required: true, kind: 'box' } },
  options: { format: { ...formatOption, alias: 'f' } },
  examples: [
    ['inspect web', 'image, limits, labels, age and running commands of the box web'],
    ["inspect -f '{{.status}}' web", 'one field'],
  ],
  async run({ box: names, format }, { withClient }) {
    const { line } = listFormOf({ json: false, format });
    const { forEachBox } = await import('../server/box-targets.ts');
    return withClient(async (client) => {
      const shown: Record<string, unknown>[] = [];
      const exitCode = await forEachBox(
        client,
        names,
        async (name) => {
          const [box, execs, stats] = await Promise.all([
            client.getBox(name),
            client.listExecs(name),
            client.boxStats(name).catch(() => null), // The box does not run.
          ]);
          const ageS = Math.max(0, Math.round((Date.now() - Date.parse(box.created_at)) / 1000));
          const running = execs.filter(({ status }) => status === 'running');
          const agent = stats?.agent ?? null;
          return {
            ...box,
            age_s: ageS,
            agent,
            commands: running.map(({ id, cmd, created_at }) => ({ id, cmd, created_at })),
          };
        },
        (_, found) => shown.push(found),
      );
      if (line === null) printJson(shown);
      else process.stdout.write(shown.map(line).join(''));
      return exitCode;
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

export const pruneCommand = defineCommand({
  name: 'prune',
  describe: 'remove all boxes that are stopped or failed; it asks first',
  options: { force: { type: 'flag', alias: 'f', describe: 'do not ask' }, json: jsonOption },
  examples: [['prune -f', 'the same as boxrun gc --older-than 0']],
  async run({ force, json }, { withClient }) {
    const { ask, requireTerminalToAsk } = await import('../server/ask.ts');
    if (!force) requireTerminalToAsk('prune', 'prune -f');
    if (!force && !(await ask('Remove all boxes that are stopped or failed, with their disks?'))) return 1;
    return withClient(async (client) => {
      const result = await client.gc(0);
      if (json) printJson(result);
      else printLines(`Removed: ${result.removed}`);
      return 0;
    });
  },
});
