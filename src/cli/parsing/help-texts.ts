// Help texts that the build has written, so that `--help` need not load yargs.
// The build makes one file for each width.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Widths in characters, the widest first. A terminal gets the widest that fits; without a terminal, the widest. */
export const helpWidths: readonly number[] = [100, 80];

/**
 * The help that `words` ask for.
 * @param columns width of the terminal in characters; undefined or 0 where it is not known
 * @returns null where yargs has to make it: no plain request for help, or a narrow terminal
 */
export function builtHelp(words: readonly string[], columns: number | undefined): string | null {
  const [last, ...path] = [...words].reverse();
  if (last !== '--help' && last !== '-h') return null;
  const width = helpWidths.find((each) => !columns || each <= columns);
  if (width === undefined) return null;
  try {
    const file = fileURLToPath(new URL(`./help-${width}.json`, import.meta.url));
    const texts = JSON.parse(readFileSync(file, 'utf8')) as Readonly<Record<string, string>>;
    return texts[path.reverse().join(' ')] ?? null;
  } catch {
    return null; // A run from sources has none.
  }
}
