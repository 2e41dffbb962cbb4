// The command stats: what running boxes use now, as a table that is renewed, or as lines for programs.
// It only reads.
import { formatOption, noTruncOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { formatOf, listFormOf } from '../parsing/format.ts';

export const statsCommand = defineCommand({
  name: 'stats',
  describe: 'show what running boxes use, every second; Ctrl-C ends it',
  positionals: {
    box: { describe: 'id or name; several may follow; all running boxes when absent', many: true, kind: 'runningBox' },
  },
  options: {
    'no-stream': { type: 'flag', describe: 'show it once, and end' },
    'no-trunc': noTruncOption,
    format: formatOption,
    json: { type: 'flag', describe: 'print JSON, one box on each line' },
  },
  hints: { '-a': 'a box that does not run uses nothing; see: boxrun ls' },
  examples: [
    ['stats', 'all running boxes'],
    ['stats --no-stream web', 'one box, once'],
  ],
  async run({ box: names, 'no-stream': isOnce, 'no-trunc': isWhole, format, json }, { interrupts, withClient }) {
    const form = listFormOf({ json, format });
    const line = form.isJson ? formatOf('json') : form.line;
    const { showStats } = await import('../server/box-stats.ts');
    return withClient(async (client) => {
      const interrupt = interrupts.catch();
      try {
        return await showStats(client, { names: [...new Set(names)], isOnce, isWhole, line }, interrupt);
      } finally {
        interrupt.release();
      }
    });
  },
});
