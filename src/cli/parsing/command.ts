// The type of a command of the command line: its arguments, flags and examples as plain data, and a function that runs
// it. The parser, the help and the completion need only the data. Large modules are loaded only by the function.
import type { BoxRunClient } from '../../sdk/index.ts';
import type { Interrupts } from '../interrupt.ts';

/** What kind of name completion offers for an argument or for the value of an option. */
export type Kind = 'box' | 'runningBox' | 'stoppedBox' | 'exec' | 'image' | 'file' | 'boxOrFile';

interface PositionalSpec {
  readonly describe: string;
  /** If absent, the argument may be left out. */
  readonly required?: true;
  readonly default?: string;
  readonly choices?: readonly string[];
  readonly kind?: Kind;
  /** Takes all words that are left. Only the last argument can have it. */
  readonly many?: true;
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
        /** The default that the help shows. The real default is found when the command runs. */
        readonly shownDefault?: string;
        readonly choices?: readonly string[];
        readonly kind?: Kind;
      }
    /** An option that may be repeated. */
    | { readonly type: 'list'; readonly kind?: Kind }
  );

type Positionals = Readonly<Record<string, PositionalSpec>>;
type Options = Readonly<Record<string, OptionSpec>>;

type PositionalValue<S> = S extends { many: true } ? readonly string[] : OneValue<S>;
type OneValue<S> = S extends { choices: readonly (infer C)[] }
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

/** What a command gets when it runs, besides its values. */
export interface CommandContext {
  /** The command for the box, or other words after `--`; empty for commands that take none. */
  readonly command: readonly string[];
  readonly interrupts: Interrupts;
  /** Of boxrun. */
  readonly version: string;
  /** Calls `work` with a client of the server. Starts the server first, if it does not answer. */
  withClient(work: (client: BoxRunClient) => Promise<number>): Promise<number>;
}

/** The words that take the place of an option, and whether they contain the word after it. */
export interface Reworded {
  readonly words: readonly string[];
  readonly takesNext: boolean;
}

interface Description<P, O> {
  readonly name: string;
  /** Other names, which users know from other programs. */
  readonly aliases?: readonly string[];
  readonly describe: string;
  readonly positionals?: P;
  readonly options?: O;
  /** Example command lines, without the word `boxrun`, and what each of them does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** Set if a command in a box must follow the last argument. It is an example line for the error message. */
  readonly takesCommand?: string;
  /** Set if other words may follow `--`, which are no command in a box. */
  readonly mayTakeWords?: true;
  /** Rewrites an option that has two meanings, before it is parsed. Null if `word` is not such an option. */
  readonly reword?: (word: string, next: string | undefined) => Reworded | null;
  /** What to type instead of an option that users know from other programs. */
  readonly hints?: Readonly<Record<string, string>>;
}

/** A command as data. */
export interface CommandSpec extends Description<Positionals, Options> {
  readonly subcommands?: readonly CommandSpec[];
  /** Returns the exit code. */
  run(values: Readonly<Record<string, unknown>>, context: CommandContext): Promise<number>;
}

/** Returns `spec`. It makes the compiler derive the types of `values` from the arguments and flags. */
export function defineCommand<const P extends Positionals, const O extends Options>(
  spec: Description<P, O> & {
    readonly subcommands?: readonly CommandSpec[];
    run(values: Values<P, O>, context: CommandContext): Promise<number>;
  },
): CommandSpec {
  return spec;
}

/** The command with this name or alias. */
export function findCommand(table: readonly CommandSpec[], name: string | undefined): CommandSpec | undefined {
  if (name === undefined) return undefined;
  return table.find((spec) => spec.name === name || spec.aliases?.includes(name) === true);
}

/** The usage line, in the form `name <required> [optional]`. */
export function usageOf({ name, positionals = {} }: CommandSpec): string {
  const words = Object.entries(positionals).map(([word, { required, many }]) => {
    const shown = many === true ? `${word}..` : word;
    return required ? `<${shown}>` : `[${shown}]`;
  });
  return [name, ...words].join(' ');
}
