// From the table of commands to a yargs parser: one command each, with its words, flags, help and examples.
// Called by main.ts alone; whatever is not in the table is a usage error.
import type { Argv } from 'yargs';
import { usageOf, type CommandContext, type CommandSpec, type OptionSpec } from './command.ts';
import { loneDash, UsageError } from './options.ts';

/** `command` is what stands after `--`, null where there is no `--`. */
type RunContext = Omit<CommandContext, 'command'> & { readonly command: readonly string[] | null };

/** Adds `specs` to `parser`; the command that is called puts its exit code into `onDone`. */
export function addCommands(
  parser: Argv,
  specs: readonly CommandSpec[],
  context: RunContext,
  onDone: (exitCode: number) => void,
): void {
  for (const spec of specs) addCommand(parser, spec, context, onDone);
}

function addCommand(parser: Argv, spec: CommandSpec, context: RunContext, onDone: (exitCode: number) => void): void {
  parser.command(
    usageOf(spec),
    spec.describe,
    (command) => {
      for (const [name, { describe, required, choices, default: value }] of Object.entries(spec.positionals ?? {})) {
        command.positional(name, {
          type: 'string',
          describe,
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
      onDone(
        await spec.run(
          { ...absentValues(spec), ...withDashes(values) },
          { ...context, command: commandOf(spec, context.command) },
        ),
      );
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

/**
 * An option that is given twice has its last value, as in other programs: a script adds its own to what it was given.
 */
function lastOf(value: unknown): unknown {
  return Array.isArray(value) ? value.at(-1) : value;
}

function withDashes(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value === loneDash ? '-' : value]));
}

/**
 * What flags and lists are where the command line does not have them. As defaults of yargs they would clutter the help.
 */
function absentValues({ options = {} }: CommandSpec): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, { type }] of Object.entries(options)) {
    if (type === 'flag') values[name] = false;
    else if (type === 'list') values[name] = [];
  }
  return values;
}

function commandOf({ takesCommand, mayTakeWords }: CommandSpec, command: readonly string[] | null): readonly string[] {
  if (mayTakeWords === true) return command ?? [];
  if (takesCommand === undefined) {
    if (command !== null) throw new UsageError('nothing may follow -- here');
    return [];
  }
  if (command === null || command.length === 0)
    throw new UsageError(`put the command after --, as in: boxrun ${takesCommand}`);
  return command;
}
