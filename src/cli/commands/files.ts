// cp: files and directories between this host and a box.
// One side is in a box, the other here; whatever is copied appears whole or not at all where it is one file.
import { defineCommand } from '../parsing/command.ts';
import { parseCopy } from '../copy/copy-paths.ts';

export const copyCommand = defineCommand({
  name: 'cp',
  describe: 'copy a file or directory into a box or out of it',
  positionals: {
    source: { describe: 'path here, BOX:PATH, or - for standard input', required: true, kind: 'boxOrFile' },
    target: { describe: 'path here, BOX:PATH, or - for standard output', required: true, kind: 'boxOrFile' },
  },
  options: { quiet: { type: 'flag', alias: 'q', describe: 'show no progress' } },
  examples: [
    ['cp notes.txt web:/srv/notes.txt', 'one file; missing directories are made'],
    ['cp web:/srv/notes.txt - | wc -c', 'out of the box, to standard output'],
    ['cp site web:/srv', 'a directory: /srv/site, or /srv itself where that is missing'],
  ],
  async run({ source, target, quiet }, { interrupts, withClient }) {
    const copy = parseCopy(source, target);
    return withClient(async (client) => {
      const interrupt = interrupts.catch();
      try {
        const { runCopy } = await import('../copy/copy.ts');
        await runCopy(client, copy, { isQuiet: quiet, signal: interrupt.signal });
        return 0;
      } catch (error) {
        if (!interrupt.signal.aborted) throw error;
        if (!interrupt.isQuiet()) process.stderr.write('\nboxrun: canceled; a file that was under way is not there\n');
        return interrupt.exitCode();
      } finally {
        interrupt.release();
      }
    });
  },
});
