// Makes the man pages from the help texts while BoxRun is built: one for boxrun, and one for each command.
// They are in the man(7) macro language, and show the help text unchanged.
import packageJson from '../../package.json' with { type: 'json' };
import type { CommandSpec } from './parsing/command.ts';

/** Text of a page. A backslash, a dash, and a dot or an apostrophe at the beginning of a line have a meaning there. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^[.']/gm, (first) => `\\&${first}`);
}

function page(name: string, describe: string, helps: readonly string[]): string {
  return [
    `.TH ${escaped(name.toUpperCase())} 1 "" "boxrun ${packageJson.version}" "BoxRun"`,
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(describe)}`,
    '.SH SYNOPSIS',
    ...helps.flatMap((help, at) => [...(at === 0 ? [] : ['.PP']), '.nf', escaped(help.trimEnd()), '.fi']),
    '.SH SEE ALSO',
    name === 'boxrun' ? 'boxrun\\-COMMAND(1), for each command' : 'boxrun(1)',
    '',
  ].join('\n');
}

/**
 * The pages by their file names.
 * @param helps the help texts as `allHelp` gives them, for a terminal of 80 characters
 */
export function manPages(
  table: readonly CommandSpec[],
  helps: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const ofCommands = table.map((spec) => {
    const { name, describe, subcommands = [] } = spec;
    const paths = [name, ...subcommands.map((each) => `${name} ${each.name}`)];
    return [
      `boxrun-${name}.1`,
      page(
        `boxrun-${name}`,
        describe,
        paths.map((path) => helps[path] ?? ''),
      ),
    ] as const;
  });
  const boxrun = page('boxrun', 'runs commands in isolated Linux boxes', [helps[''] ?? '']);
  return Object.fromEntries([['boxrun.1', boxrun], ...ofCommands]);
}
