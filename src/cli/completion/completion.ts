// Candidates for the word at the cursor of a command line. Shells run this at each Tab. So it loads little (only names
// of images need the large bundle heavy.ts), waits for the server a short time only, and never starts a server. If it
// cannot find candidates, it prints none and no error.
import type { Box, Exec, Images } from '../../shared/api.ts';
import { isClientOnly } from '../client-only.ts';
import { loadConfig, serverAddress } from '../../shared/settings/config.ts';
import { findCommand, type CommandSpec, type Kind, type OptionSpec } from '../parsing/command.ts';

const answerTimeoutMs = 1_000;

/** With this line, the completion script adds the names of files. */
const filesWanted = ':files';
/** With this line, the completion script puts no space after the candidate. */
const noSpace = ':nospace';

/** Looks names up. Tests pass their own source. */
export interface NameSource {
  boxes(status: 'running' | 'stopped' | null): Promise<readonly string[]>;
  execs(box: string): Promise<readonly string[]>;
  images(): Promise<readonly string[]>;
}

/**
 * Returns the candidates for the last of `words`, one on each line. The scripts put `=` before that word, because a
 * shell may drop an empty word.
 */
export async function candidateLines(words: readonly string[], table: readonly CommandSpec[]): Promise<string> {
  const last = words.at(-1) ?? '=';
  const lines = await candidates(words.slice(0, -1), last.slice(1), table, serverNames).catch(() => []);
  return lines.map((line) => `${line}\n`).join('');
}

/** The candidates for `current`, the word after `words`. `words` does not contain the name of the program. */
export async function candidates(
  words: readonly string[],
  current: string,
  table: readonly CommandSpec[],
  names: NameSource,
): Promise<string[]> {
  if (words.includes('--')) return []; // The command in the box follows. Its words are not known here.
  const place = findPlace(words, table);
  const found = await candidatesAt(place, current, names);
  return found.filter((line) => line.startsWith(':') || line.startsWith(current));
}

interface Place {
  readonly spec: CommandSpec | null;
  readonly commands: readonly CommandSpec[];
  /** The option whose value is the word at the cursor; null if the word is no value of an option. */
  readonly option: OptionSpec | null;
  /** Words that are neither the command nor options. */
  readonly positionals: readonly string[];
}

function findPlace(words: readonly string[], table: readonly CommandSpec[]): Place {
  let spec: CommandSpec | null = null;
  let commands = table;
  let option: OptionSpec | null = null;
  const positionals: string[] = [];
  let isTaken = false;
  for (const [at, word] of words.entries()) {
    // `reword` rewrites `-t 5` to `--timeout 5` (options.ts).
    const reworded = spec?.reword?.(word, words[at + 1]) ?? null;
    if (isTaken) {
      isTaken = false; // It is the value that the reworded word before it needs.
    } else if (reworded !== null) {
      isTaken = reworded.takesNext;
    } else if (option !== null) {
      option = null;
    } else if (word.startsWith('-')) {
      option = optionWithValue(spec, word);
    } else {
      const next = positionals.length === 0 ? findCommand(commands, word) : undefined;
      if (next === undefined) positionals.push(word);
      else [spec, commands] = [next, next.subcommands ?? []];
    }
  }
  return { spec, commands, option, positionals };
}

/** The option that `word` names, if the next word is its value; else null. */
function optionWithValue(spec: CommandSpec | null, word: string): OptionSpec | null {
  const found = Object.entries(spec?.options ?? {}).find(
    ([name, { alias }]) => word === `--${name}` || word === `-${alias ?? ''}`,
  )?.[1];
  return found === undefined || found.type === 'flag' ? null : found;
}

async function candidatesAt(
  { spec, commands, option, positionals }: Place,
  current: string,
  names: NameSource,
): Promise<string[]> {
  if (option !== null) return valuesOf(option.type === 'flag' ? {} : option, current, positionals, names);
  if (current.startsWith('-')) return flagsOf(spec);
  if (positionals.length === 0 && commands.length > 0) return commands.map(({ name }) => name);
  const places = Object.values(spec?.positionals ?? {});
  const positional = places[positionals.length] ?? (places.at(-1)?.many === true ? places.at(-1) : undefined);
  if (positional !== undefined) return valuesOf(positional, current, positionals, names);
  // The command in the box may begin here. Its words are not known, but -- is always right.
  return spec?.takesCommand === undefined || positionals.length > places.length ? [] : ['--'];
}

function flagsOf(spec: CommandSpec | null): string[] {
  const own = Object.keys(spec?.options ?? {}).map((name) => `--${name}`);
  return [
    ...own,
    '--help',
    ...(spec === null ? ['--verbose', '--color'] : []),
    ...(spec === null ? ['--version'] : []),
    ...(spec?.takesCommand === undefined ? [] : ['--']),
  ];
}

async function valuesOf(
  { choices, kind }: { readonly choices?: readonly string[]; readonly kind?: Kind },
  current: string,
  positionals: readonly string[],
  names: NameSource,
): Promise<string[]> {
  if (choices !== undefined) return [...choices];
  if (kind === undefined) return [];
  switch (kind) {
    case 'box':
      return [...(await names.boxes(null))];
    case 'runningBox':
      return [...(await names.boxes('running'))];
    case 'stoppedBox':
      return [...(await names.boxes('stopped'))];
    case 'exec':
      return [...(await names.execs(positionals[0] ?? ''))];
    case 'image':
      return [...(await names.images())];
    case 'file':
      return [filesWanted];
    case 'boxOrFile': {
      if (current.includes(':')) return []; // A path in a box.
      const boxes = current.includes('/') ? [] : (await names.boxes('running')).map((name) => `${name}:`);
      return [...boxes, noSpace, filesWanted];
    }
  }
}

const serverNames: NameSource = {
  async boxes(status) {
    const boxes = await get<Box[]>(`/v1/boxes${status === null ? '' : `?status=${status}`}`);
    return boxes.map(({ id, name }) => name ?? id);
  },
  async execs(box) {
    return (await get<Exec[]>(`/v1/boxes/${encodeURIComponent(box)}/execs`)).map(({ id }) => id);
  },
  async images() {
    const listed = await get<Images>('/v1/images').catch(() => null);
    if (listed !== null) return [...listed.images.map(({ name }) => name), ...Object.keys(listed.aliases)];
    return isClientOnly ? [] : (await import('../heavy.ts')).imageNames(loadConfig());
  },
};

/** The JSON that the server answers at `path`. Rejects if no server runs. */
async function get<T>(path: string): Promise<T> {
  const { request } = await import('node:http'); // Most candidates need no server.
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { ...serverAddress(loadConfig()), path, agent: false, timeout: answerTimeoutMs },
      (incoming) => {
        let text = '';
        incoming.setEncoding('utf8');
        incoming.on('data', (piece: string) => {
          text += piece;
        });
        incoming.on('error', reject);
        incoming.on('end', () => {
          try {
            resolve(JSON.parse(text) as T);
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        });
      },
    );
    outgoing.on('timeout', () => outgoing.destroy(new Error(`the server did not answer within ${answerTimeoutMs} ms`)));
    outgoing.on('error', reject);
    outgoing.end();
  });
}
