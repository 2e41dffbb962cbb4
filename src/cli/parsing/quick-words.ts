// Parses a correct command line without loading yargs, which is slow. If it is not sure that the line is correct, it
// returns null. Then yargs parses the line, so that only yargs makes help and error texts.
import parseWords from 'yargs-parser';
import { findCommand, type CommandSpec, type OptionSpec } from './command.ts';
import { loneDash } from './options.ts';

interface QuickWords {
  readonly spec: CommandSpec;
  readonly values: Readonly<Record<string, unknown>>;
}

/**
 * Finds the command that `words` name, and its values. The values are the same as those of yargs.
 * @returns null if yargs must parse the words
 */
export function readQuickly(words: readonly string[], table: readonly CommandSpec[]): QuickWords | null {
  const [name, ...rest] = words;
  const spec = findCommand(table, name);
  if (spec === undefined) return null;
  if (spec.subcommands !== undefined) return readQuickly(rest, spec.subcommands);
  const values = valuesOf(rest, spec);
  return values === null ? null : { spec, values };
}

function valuesOf(words: readonly string[], { options = {}, positionals = {} }: CommandSpec) {
  const names = Object.keys(options);
  const ofType = (type: OptionSpec['type']) => names.filter((name) => options[name]?.type === type);
  const { argv, error } = parseWords.detailed(
    words.map((word) => (word === '-' ? loneDash : word)),
    {
      boolean: ofType('flag'),
      string: [...ofType('text'), ...ofType('list')],
      alias: Object.fromEntries(names.flatMap((name) => withAlias(name, options[name]))),
      narg: Object.fromEntries([...ofType('text'), ...ofType('list')].map((name) => [name, 1])),
      configuration: {
        'camel-case-expansion': false,
        'strip-aliased': true,
        'parse-positional-numbers': false,
        'boolean-negation': false,
      },
    },
  );
  const { _: given, ...found } = argv as { readonly _: readonly string[]; readonly [name: string]: unknown };
  if (error !== null || Object.keys(found).some((name) => !names.includes(name))) return null;
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) {
    const value = optionValue(option, found[name]);
    if (value === undefined) return null;
    if (value !== absent) values[name] = value;
  }
  const places = Object.entries(positionals);
  if (given.length > places.length && places.at(-1)?.[1].many !== true) return null;
  for (const [at, [name, { required, choices, default: fallback, many }]] of places.entries()) {
    if (many === true) {
      const words = given.slice(at).map(withDash);
      if (required === true && words.length === 0) return null;
      values[name] = words;
      continue;
    }
    const word = given[at];
    const value = word === undefined ? fallback : withDash(word);
    if (value === undefined && required === true) return null;
    if (value !== undefined && choices !== undefined && !choices.includes(value)) return null;
    if (value !== undefined) values[name] = value;
  }
  return values;
}

function withAlias(name: string, option: OptionSpec | undefined): [string, string[]][] {
  return option?.alias === undefined ? [] : [[name, [option.alias]]];
}

const absent = Symbol('absent');

/** The value of an option; `absent` if it has none; undefined if yargs must parse the words. */
function optionValue(option: OptionSpec, given: unknown): unknown {
  if (option.type === 'flag') return given === undefined ? false : typeof given === 'boolean' ? given : undefined;
  const all = (given === undefined ? [] : Array.isArray(given) ? given : [given]) as unknown[];
  if (all.some((value) => typeof value !== 'string' || value === '')) return undefined;
  const texts = (all as string[]).map(withDash);
  if (option.type === 'list') return texts;
  const last = texts.at(-1) ?? option.default;
  if (last === undefined) return absent;
  return option.choices !== undefined && !option.choices.includes(last) ? undefined : last;
}

function withDash(word: string): string {
  return word === loneDash ? '-' : word;
}
