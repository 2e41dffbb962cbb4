// Builds a yargs parser from the table of commands, with arguments, flags, help and examples.
// A word or flag that is not in the table is a usage error.
import yargs, { type Argv } from 'yargs';
import { usageOf, type CommandSpec, type OptionSpec } from './command.ts';
import { loneDash, UsageError } from './options.ts';
import { runCommand, type RunContext } from './run-command.ts';

/** In characters. Longer lines are hard to read. */
const helpWidthMax = 100;

/**
 * Parses `words`, runs the command that they name, and returns its exit code. If the words ask for help, prints it.
 * @throws UsageError
 */
export async function parseAndRun(
  words: readonly string[],
  table: readonly CommandSpec[],
  context: RunContext,
): Promise<number> {
  let exitCode = 0;
  const parser = parserOf(words, Math.min(helpWidthMax, process.stdout.columns || helpWidthMax)).version(
    context.version,
  );
  addCommands(parser, table, context, (code) => {
    exitCode = code;
  });
  await parser.parseAsync();
  return exitCode;
}

/** The help of the command at `path`; an empty `path` gives the list of commands. `width` is in characters. */
export async function helpOf(path: readonly string[], table: readonly CommandSpec[], width: number): Promise<string> {
  const parser = parserOf([], width);
  addCommands(parser, table, null, () => undefined);
  return new Promise((resolve) => {
    void parser.parseAsync([...path, '--help'], {}, (_error, _values, output) => {
      resolve(`${output}\n`);
    });
  });
}

function parserOf(words: readonly string[], width: number): Argv {
  return yargs(words.map((word) => (word === '-' ? loneDash : word)))
    .scriptName('boxrun')
    .usage('$0 COMMAND\n\nRuns commands in isolated Linux boxes on this host.')
    .locale('en')
    .parserConfiguration({ 'boolean-negation': false })
    .wrap(width)
    .strict()
    .demandCommand(1, 'no command given')
    .alias('help', 'h')
    .epilogue('Every command also takes --verbose (details of errors) and --color auto|always|never.')
    .exitProcess(false)
    .fail((message: string | null, error: Error | undefined) => {
      throw error ?? new UsageError(message ?? 'the command line is not valid');
    });
}

/** Adds `specs` to `parser`. The command that runs passes its exit code to `onDone`. */
function addCommands(
  parser: Argv,
  specs: readonly CommandSpec[],
  context: RunContext | null,
  onDone: (exitCode: number) => void,
): void {
  for (const spec of specs) addCommand(parser, spec, context, onDone);
}

function addCommand(
  parser: Argv,
  spec: CommandSpec,
  context: RunContext | null,
  onDone: (exitCode: number) => void,
): void {
  parser.command(
    [usageOf(spec), ...(spec.aliases ?? [])],
    spec.describe,
    (command) => {
      for (const [name, positional] of Object.entries(spec.positionals ?? {})) {
        const { describe, required, choices, default: value, many } = positional;
        command.positional(name, {
          type: 'string',
          describe,
          ...(many === undefined ? {} : { array: true }),
          ...(required === undefined ? {} : { demandOption: true }),
          ...(choices === undefined ? {} : { choices }),
          ...(value === undefined ? {} : { default: value }),
        });
      }
      for (const [name, option] of Object.entries(spec.options ?? {})) command.option(name, yargsOption(option));
      for (const [line, what] of spec.examples) command.example(`$0 ${line}`, what);
      addCommands(command, spec.subcommands ?? [], context, onDone);
      return command;
    },
    async (values) => {
      if (context !== null) onDone(await runCommand(spec, { ...absentValues(spec), ...withDashes(values) }, context));
    },
  );
}

function yargsOption(option: OptionSpec) {
  const base = { describe: option.describe, ...(option.alias === undefined ? {} : { alias: option.alias }) };
  if (option.type === 'flag') return { ...base, type: 'boolean' } as const;
  if (option.type === 'list') return { ...base, type: 'string', array: true, nargs: 1 } as const;
  return {
    ...base,
    type: 'string',
    requiresArg: true,
    coerce: lastOf,
    ...(option.choices === undefined ? {} : { choices: option.choices }),
    ...(option.default === undefined ? {} : { default: option.default }),
    ...(option.shownDefault === undefined ? {} : { defaultDescription: option.shownDefault }),
  } as const;
}

/** If an option is given twice, the last value counts, as in other programs. A script can then override options. */
function lastOf(value: unknown): unknown {
  return Array.isArray(value) ? value.at(-1) : value;
}

function withDashes(values: Record<string, unknown>): Record<string, unknown> {
  const withDash = (value: unknown) => (value === loneDash ? '-' : value);
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, Array.isArray(value) ? value.map(withDash) : withDash(value)]),
  );
}

/**
 * Values of the flags, lists and repeated arguments that the command line does not contain. They are not given to yargs
 * as defaults, because yargs would then show them in the help.
 */
function absentValues({ options = {}, positionals = {} }: CommandSpec): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, { many }] of Object.entries(positionals)) if (many === true) values[name] = [];
  for (const [name, { type }] of Object.entries(options)) {
    if (type === 'flag') values[name] = false;
    else if (type === 'list') values[name] = [];
  }
  return values;
}
