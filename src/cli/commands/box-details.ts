// The commands rename and label: they change the name and the labels of one box, in any state.
// Each sends one request, so either all changes are made or none.
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { parseLabelChanges } from '../parsing/options.ts';
import { printJson, printLines } from '../render/render.ts';

export const renameCommand = defineCommand({
  name: 'rename',
  describe: 'give a box another name',
  positionals: {
    box: { describe: 'id or name', required: true, kind: 'box' },
    name: { describe: 'new name', required: true },
  },
  options: { json: jsonOption },
  examples: [['rename web site', 'the box web is now called site']],
  async run({ box, name, json }, { withClient }) {
    const { withBox } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const changed = await withBox(client, box, (found) => client.updateBox(found, { name }));
      if (json) printJson(changed);
      else printLines(changed.id, `Name: ${changed.name ?? '-'}`);
      return 0;
    });
  },
});

export const labelCommand = defineCommand({
  name: 'label',
  describe: 'set or remove labels of a box, and print all its labels',
  positionals: {
    box: { describe: 'id or name', required: true, kind: 'box' },
    change: { describe: 'KEY=VALUE sets a label, KEY- removes it', many: true },
  },
  options: { json: jsonOption },
  examples: [
    ['label web team=docs stage=test', 'set two labels'],
    ['label web stage-', 'remove the label stage'],
    ['label web', 'only print the labels'],
  ],
  async run({ box, change, json }, { withClient }) {
    const labels = parseLabelChanges(change);
    const { withBox } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const shown = await withBox(client, box, (found) =>
        change.length === 0 ? client.getBox(found) : client.updateBox(found, { labels }),
      );
      if (json) printJson(shown);
      else printLines(...Object.entries(shown.labels).map(([key, value]) => `${key}=${value}`));
      return 0;
    });
  },
});
