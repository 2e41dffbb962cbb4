// Help texts that the build has written, so that `--help` does not load yargs, which is slow.
// There is one file for each width.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** In characters, the widest first. A terminal gets the widest text that fits, a pipe gets the widest. */
export const helpWidths: readonly number[] = [100, 80];

/**
 * The help text that `words` request.
 * @param columns width of the terminal in characters; undefined or 0 if it is not known
 * @returns null if the words ask for no help, or yargs must make it (more words than a command and --help, a narrow
 *   terminal, no build)
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
    return null; // The program runs from its sources: the build has written no help texts.
  }
}
