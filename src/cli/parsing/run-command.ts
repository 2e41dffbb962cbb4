// Runs one command of the table with the values of its words.
// It does the same for values that were read quickly and for those that yargs has read.
import type { CommandContext, CommandSpec } from './command.ts';
import { UsageError } from './options.ts';

/** `command` is what stands after `--`, null where there is no `--`. */
export type RunContext = Omit<CommandContext, 'command'> & {
  readonly command: readonly string[] | null;
  readonly version: string;
};

/** Gives the exit code. @throws UsageError */
export function runCommand(
  spec: CommandSpec,
  values: Readonly<Record<string, unknown>>,
  context: RunContext,
): Promise<number> {
  return spec.run(values, { ...context, command: commandOf(spec, context.command) });
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
