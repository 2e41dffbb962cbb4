// The command cp: copies a file or a directory between this host and a box.
// A file appears at its target only when it is complete. That does not hold for the files of a directory.
import { defineCommand } from '../parsing/command.ts';
import { parseCopy } from '../copy/copy-paths.ts';

export const copyCommand = defineCommand({
  name: 'cp',
  describe: 'copy a file or a directory into a box or out of a box',
  positionals: {
    source: { describe: 'local path, BOX:PATH, or - for standard input', required: true, kind: 'boxOrFile' },
    target: { describe: 'local path, BOX:PATH, or - for standard output', required: true, kind: 'boxOrFile' },
  },
  options: { quiet: { type: 'flag', alias: 'q', describe: 'show no progress' } },
  examples: [
    ['cp notes.txt web:/srv/notes.txt', 'one file; missing directories are created'],
    ['cp web:/srv/notes.txt - | wc -c', 'from the box to standard output'],
    ['cp site web:/srv', 'a directory: it becomes /srv/site, or /srv if there is no /srv yet'],
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
        if (!interrupt.isQuiet())
          process.stderr.write('\nboxrun: canceled; a file that was not complete was not written\n');
        return interrupt.exitCode();
      } finally {
        interrupt.release();
      }
    });
  },
});
