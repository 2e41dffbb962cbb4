// Runs one command of the table with its parsed values.
// It works the same for values from quick-words.ts and for values from yargs.
import type { CommandContext, CommandSpec } from './command.ts';
import { UsageError } from './options.ts';

/** `command` holds the words of the command for the box; null if there is none. */
export type RunContext = Omit<CommandContext, 'command'> & {
  readonly command: readonly string[] | null;
  readonly version: string;
};

/** Returns the exit code. @throws UsageError if words after `--` are missing or not allowed */
export function runCommand(
  spec: CommandSpec,
  values: Readonly<Record<string, unknown>>,
  context: RunContext,
): Promise<number> {
  return spec.run(values, { ...context, command: commandOf(spec, context.command) });
}

function commandOf({ takesCommand, mayTakeWords }: CommandSpec, command: readonly string[] | null): readonly string[] {
  if (mayTakeWords === true) return command ?? []; // Only `service install`: options for serve.
  if (takesCommand === undefined) {
    if (command !== null) throw new UsageError('this command does not take words after --');
    return [];
  }
  if (command === null || command.length === 0)
    throw new UsageError(`no command for the box; put it last, as in: boxrun ${takesCommand}`);
  return command;
}
