// What every command of the command line gets from main.ts.
import type { Argv } from 'yargs';
import type { Interrupts } from './interrupt.ts';
import { UsageError } from './options.ts';

export interface CommandContext {
  /** What stands after `--`, word by word; null where there is no `--`. */
  readonly command: readonly string[] | null;
  readonly interrupts: Interrupts;
  /** Makes a handler for yargs out of a function that gives an exit code. */
  run<A>(work: (argv: A) => Promise<number>): (argv: A) => Promise<void>;
}

export type Parser = Argv;

/** The command after `--`. */
export function requireCommand({ command }: CommandContext, usage: string): string[] {
  if (command === null || command.length === 0) throw new UsageError(`put the command after --, as in: ${usage}`);
  return [...command];
}

/** For commands that run nothing in a box. */
export function refuseCommand({ command }: CommandContext): void {
  if (command !== null) throw new UsageError('nothing may follow -- here');
}
