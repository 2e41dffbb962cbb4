// Splits a command line into the words of boxrun and the command for the box. Words of boxrun get one form: names of
// commands without aliases, and long options. A wrong option is a usage error here, before anything else happens.
import { colorModes, type GeneralOptions } from '../general-options.ts';
import { findCommand, type CommandSpec, type OptionSpec } from './command.ts';
import { UsageError } from './options.ts';
import { unknownOption } from './suggestions.ts';

export interface CommandLine {
  /** Begins with the name of the command. */
  readonly own: readonly string[];
  /** The command for the box; null if there is none. */
  readonly command: readonly string[] | null;
  /** Options that every command takes. */
  readonly general: GeneralOptions;
}

/** Flags of the parser, which every command has. */
const parserFlags = new Set(['help', 'version']);

/**
 * The command for the box follows the last argument of boxrun. `--` may stand before it. Options after that argument
 * are options of boxrun only if a `--` follows.
 * @throws UsageError for an option that the command does not have
 */
export function readCommandLine(args: readonly string[], table: readonly CommandSpec[]): CommandLine {
  const reader = createReader(args);
  while (reader.word()?.startsWith('-') === true && reader.word() !== '--') reader.takeOption(null);
  const spec = reader.takeNames(table);
  if (spec === undefined) return reader.end();
  const places = Object.values(spec.positionals ?? {});
  const isFull = (count: number) => spec.takesCommand !== undefined && count >= places.length;
  let given = 0;
  let mustHaveDashes = false;
  for (let word = reader.word(); word !== undefined && word !== '--'; word = reader.word()) {
    if (!isOption(word)) {
      if (isFull(given) && !mustHaveDashes) return reader.endWithCommand();
      given++;
      reader.take();
      continue;
    }
    if (isFull(given)) {
      mustHaveDashes = true;
      const isHelp = word === '--help' || word === '-h';
      if (!isHelp && !reader.hasDashes())
        throw new UsageError(`put ${word} before the ${Object.keys(spec.positionals ?? {}).at(-1) ?? 'command'}`);
    }
    reader.takeOption(spec);
  }
  return reader.end();
}

/** A word such as `-1` is a number, and `-` is standard input or output. */
function isOption(word: string): boolean {
  return /^-[^\d]/.test(word);
}

function createReader(args: readonly string[]) {
  const own: string[] = [];
  const general: { color?: GeneralOptions['color'] & string; isVerbose?: boolean } = {};
  let at = 0;

  /** Moves past the value of an option. `undefined` if there is none; then the parser reports that. */
  function takeValue(): string | undefined {
    const value = args[at];
    if (value === undefined || value === '--' || isOption(value)) return undefined;
    at++;
    return value;
  }

  /** @param value after `=` in the same word; undefined if there is none */
  function pushOption(name: string, option: OptionSpec, value: string | undefined): void {
    if (value !== undefined) own.push(`--${name}=${value}`);
    else {
      const next = option.type === 'flag' ? undefined : takeValue();
      own.push(`--${name}`, ...(next === undefined ? [] : [next]));
    }
  }

  function takeGeneral(name: string, value: string | undefined): boolean {
    if (name === 'verbose' && value === undefined) general.isVerbose = true;
    else if (name === 'color') {
      const text = value ?? takeValue();
      const mode = colorModes.find((known) => known === text);
      if (mode === undefined) throw new UsageError(`--color must be ${colorModes.join(', ')}, not '${text ?? ''}'`);
      general.color = mode;
    } else return false;
    return true;
  }

  function takeLong(spec: CommandSpec | null, word: string): void {
    const [, name = '', value] = /^--([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
    if (takeGeneral(name, value)) return;
    const option = spec?.options?.[name];
    const negated = /^no-(.+)$/.exec(name)?.[1] ?? '';
    if (option !== undefined) pushOption(name, option, value);
    else if (spec?.options?.[negated]?.type === 'flag') own.push(`--${negated}=false`);
    else if (parserFlags.has(name)) own.push(word);
    else throw unknownOption(`--${name}`, spec);
  }

  /** A group of short options, as `-it`. The last one may have a value, in the same word or in the next one. */
  function takeShort(spec: CommandSpec | null, word: string): void {
    for (let place = 1; place < word.length; place++) {
      const letter = word[place] ?? '';
      const rest = word.slice(place + 1);
      const [name, option] = Object.entries(spec?.options ?? {}).find(([, { alias }]) => alias === letter) ?? [];
      if (name === undefined || option === undefined) {
        if (letter === 'h') own.push('--help');
        else if (letter === 'v' && spec === null) own.push('--version');
        else throw unknownOption(`-${letter}`, spec);
        continue;
      }
      const hasValue = rest.startsWith('=') || (option.type !== 'flag' && rest !== '');
      pushOption(name, option, hasValue ? rest.replace(/^=/, '') : undefined);
      if (hasValue) return;
    }
  }

  return {
    word: () => args[at],
    take() {
      own.push(args[at++] ?? '');
    },
    /** Takes the name of a command and of its subcommand; gives that command. */
    takeNames(table: readonly CommandSpec[]): CommandSpec | undefined {
      const spec = findCommand(table, args[at]);
      if (spec === undefined) {
        // Help and version need no command. The parser reports an unknown command.
        const rest = args.slice(at);
        const end = rest.indexOf('--');
        own.push(...(end < 0 ? rest : rest.slice(0, end)));
        at = args.length;
        return undefined;
      }
      own.push(spec.name);
      at++;
      return findCommand(spec.subcommands ?? [], args[at]) === undefined
        ? spec
        : this.takeNames(spec.subcommands ?? []);
    },
    takeOption(spec: CommandSpec | null) {
      const word = args[at++] ?? '';
      const reworded = spec?.reword?.(word, args[at]) ?? null;
      if (reworded !== null) {
        own.push(...reworded.words);
        if (reworded.takesNext) at++;
      } else if (word.startsWith('--')) takeLong(spec, word);
      else takeShort(spec, word);
    },
    hasDashes: () => args.includes('--', at),
    end(): CommandLine {
      return { own, general, command: args[at] === '--' ? args.slice(at + 1) : null };
    },
    endWithCommand(): CommandLine {
      return { own, general, command: args.slice(at) };
    },
  };
}
