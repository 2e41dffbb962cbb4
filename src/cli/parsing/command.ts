// What a command of the command line is: words, flags and an example as plain data, and the work behind them. The data
// alone makes the parser, the help and the completion; whatever is heavy is loaded by the work, when it runs. Defined
// in commands/*.ts, collected in command-table.ts.
import type { BoxRunClient } from '../../sdk/index.ts';
import type { Interrupts } from '../terminal/interrupt.ts';

/** What may stand in the place of a word, for completion. */
export type Kind = 'box' | 'runningBox' | 'stoppedBox' | 'exec' | 'image' | 'file' | 'boxOrFile';

interface PositionalSpec {
  readonly describe: string;
  /** Without it, the word may be left out. */
  readonly required?: true;
  readonly default?: string;
  readonly choices?: readonly string[];
  readonly kind?: Kind;
}

interface OptionBase {
  readonly describe: string;
  readonly alias?: string;
}
export type OptionSpec = OptionBase &
  (
    | { readonly type: 'flag' }
    | {
        readonly type: 'text';
        readonly default?: string;
        /** Default for people, where it is found out later. */
        readonly shownDefault?: string;
        readonly choices?: readonly string[];
        readonly kind?: Kind;
      }
    /** May be repeated. */
    | { readonly type: 'list'; readonly kind?: Kind }
  );

type Positionals = Readonly<Record<string, PositionalSpec>>;
type Options = Readonly<Record<string, OptionSpec>>;

type PositionalValue<S> = S extends { choices: readonly (infer C)[] }
  ? C
  : S extends { required: true } | { default: string }
    ? string
    : string | undefined;
type OptionValue<S> = S extends { type: 'flag' }
  ? boolean
  : S extends { type: 'list' }
    ? readonly string[]
    : (S extends { choices: readonly (infer C)[] } ? C : string) | (S extends { default: string } ? never : undefined);

export type Values<P, O> = { readonly [K in keyof P]: PositionalValue<P[K]> } & {
  readonly [K in keyof O]: OptionValue<O[K]>;
};

/** What a command gets to work with. */
export interface CommandContext {
  /** What stands after `--`, word by word; empty for commands that take nothing there. */
  readonly command: readonly string[];
  readonly interrupts: Interrupts;
  readonly version: string;
  /** Calls `work` with a client of the running server, which is started first if need be. */
  withClient(work: (client: BoxRunClient) => Promise<number>): Promise<number>;
}

interface Description<P, O> {
  readonly name: string;
  readonly describe: string;
  readonly positionals?: P;
  readonly options?: O;
  /** Command lines without `boxrun`, and what each of them does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** A command line that shows how the command in the box is given, for those that take one after `--`. */
  readonly takesCommand?: string;
  /** Words may stand after `--`; they are no command in a box. */
  readonly mayTakeWords?: true;
  /** Rewrites its words, the name among them, before they are read: for flags that mean one thing or another. */
  readonly reword?: (words: readonly string[]) => string[];
}

/** A command as data. */
export interface CommandSpec extends Description<Positionals, Options> {
  readonly subcommands?: readonly CommandSpec[];
  /** Gives the exit code. */
  run(values: Readonly<Record<string, unknown>>, context: CommandContext): Promise<number>;
}

/** Checks the types of a command's values against its words and flags. */
export function defineCommand<const P extends Positionals, const O extends Options>(
  spec: Description<P, O> & {
    readonly subcommands?: readonly CommandSpec[];
    run(values: Values<P, O>, context: CommandContext): Promise<number>;
  },
): CommandSpec {
  return spec;
}

/** `name <required> [optional]`. */
export function usageOf({ name, positionals = {} }: CommandSpec): string {
  const words = Object.entries(positionals).map(([word, { required }]) => (required ? `<${word}>` : `[${word}]`));
  return [name, ...words].join(' ');
}
