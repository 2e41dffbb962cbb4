// Makes the help texts and man pages of all commands while BoxRun is built: see help-texts.ts.
// It loads yargs, which is slow, so no code of the program may import it.
import type { CommandSpec } from './parsing/command.ts';
import { commandTable } from './commands/command-table.ts';
import { manPages } from './man-pages.ts';
import { helpOf } from './parsing/parser.ts';

export { helpWidths } from './parsing/help-texts.ts';

/** The man pages by their file names. */
export async function allManPages(): Promise<Readonly<Record<string, string>>> {
  return manPages(commandTable, await allHelp(80));
}

/**
 * The help text of each command, by its words, such as `images import`. The empty key has the list of all commands.
 * @param width of the lines, in characters
 */
export async function allHelp(width: number): Promise<Record<string, string>> {
  const texts: Record<string, string> = {};
  const add = async (path: readonly string[], specs: readonly CommandSpec[]): Promise<void> => {
    texts[path.join(' ')] = await helpOf(path, commandTable, width);
    for (const { name, subcommands = [] } of specs) await add([...path, name], subcommands);
  };
  await add([], commandTable);
  return texts;
}
