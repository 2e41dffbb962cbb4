// The help texts of all commands, for the build: see help-texts.ts.
// It loads yargs, so nothing else may import it.
import type { CommandSpec } from './command.ts';
import { commandTable } from './command-table.ts';
import { helpOf } from './parser.ts';

export { helpWidths } from './help-texts.ts';

/** Each text under the words of its command, such as `images import`; that of all commands under no words. */
export async function allHelp(width: number): Promise<Record<string, string>> {
  const texts: Record<string, string> = {};
  const add = async (path: readonly string[], specs: readonly CommandSpec[]): Promise<void> => {
    texts[path.join(' ')] = await helpOf(path, commandTable, width);
    for (const { name, subcommands = [] } of specs) await add([...path, name], subcommands);
  };
  await add([], commandTable);
  return texts;
}
