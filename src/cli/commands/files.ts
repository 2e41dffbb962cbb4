// The command cp: copies a file or a directory between this host and a box.
// A file appears at its target only when it is complete. That does not hold for the files of a directory.
import { defineCommand } from '../parsing/command.ts';
import { parseCopies } from '../copy/copy-paths.ts';

export const copyCommand = defineCommand({
  name: 'cp',
  describe: 'copy files and directories into a box or out of a box: boxrun cp SOURCE... TARGET',
  positionals: {
    path: {
      describe: 'sources, then the target: local paths, BOX:PATH, or - for standard input or output',
      required: true,
      many: true,
      kind: 'boxOrFile',
    },
  },
  options: {
    quiet: { type: 'flag', alias: 'q', describe: 'show no progress' },
    recursive: { type: 'flag', alias: 'r', describe: 'accepted: a directory is always copied with all that is in it' },
    archive: { type: 'flag', alias: 'a', describe: 'accepted: modes are kept as far as the other side allows' },
  },
  examples: [
    ['cp notes.txt web:/srv/notes.txt', 'one file; missing directories are created'],
    ['cp web:/srv/notes.txt - | wc -c', 'from the box to standard output'],
    ['cp site web:/srv', 'a directory: it becomes /srv/site, or /srv if there is no /srv yet'],
  ],
  async run({ path: paths, quiet }, { interrupts, withClient }) {
    const copies = parseCopies(paths);
    return withClient(async (client) => {
      const interrupt = interrupts.catch();
      try {
        const { runCopy } = await import('../copy/copy.ts');
        const { withBox } = await import('../server/id-prefixes.ts');
        for (const copy of copies) {
          await withBox(client, copy.remote.box, (box) =>
            runCopy(client, { ...copy, remote: { ...copy.remote, box } }, { isQuiet: quiet, signal: interrupt.signal }),
          );
        }
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
