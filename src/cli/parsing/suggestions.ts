// What a user may have meant by a command or an option that boxrun does not have. Everything here becomes the text of a
// usage error. If boxrun has something similar, the hint names the command line for it.
import type { CommandSpec } from './command.ts';
import { UsageError } from './options.ts';

/** Commands of other programs, and what to type here. */
const foreignCommands: Readonly<Record<string, string>> = {
  build: 'BoxRun builds no images; import one: boxrun images import NAME PATH',
  commit: 'BoxRun makes no images from boxes; copy files out: boxrun cp BOX:PATH TARGET',
  container: 'leave out the word container, as in: boxrun ls',
  diff: 'BoxRun does not compare a disk with its image',
  export: 'copy files out of the box: boxrun cp BOX:PATH TARGET',
  history: 'see: boxrun images',
  load: 'see: boxrun images import NAME PATH',
  login: 'registries are used without a login; import the image: boxrun images import NAME PATH',
  network: 'a box has the network of the host or none: boxrun create --network IMAGE',
  pause: 'a box cannot be paused; stop it: boxrun stop BOX',
  push: 'BoxRun sends no images to a registry',
  save: 'BoxRun exports no images',
  search: 'BoxRun does not search registries',
  ssh: 'see: boxrun attach BOX',
  system: 'see: boxrun info, boxrun prune',
  tag: 'import the image under the other name: boxrun images import NAME PATH',
  unpause: 'a box cannot be paused; start it: boxrun start BOX',
  update: 'limits of a box are set when it is created: boxrun create --cpus 0.5 -m 1g IMAGE; see also boxrun label',
  volume: 'a volume is a directory of the host: boxrun create -v /host:/guest IMAGE',
};

const noPorts =
  'BoxRun publishes no ports of a box for good; while you need one: boxrun forward BOX 8080:80, or boxrun url BOX 80';
/** Options of other programs, and what to type here. */
const foreignOptions: Readonly<Record<string, string>> = {
  '-p': noPorts,
  '-P': noPorts,
  '--publish': noPorts,
  '--publish-all': noPorts,
  '--entrypoint': 'name the whole command after the image',
  '--mount': 'see: -v /host:/guest[:ro]',
  '--privileged': 'no box is privileged',
  '--restart': 'BoxRun starts no command again',
  '--time': 'it is called --grace here',
  '--net': 'it is called --network here, and it has no value',
  '--since': 'an output event has a number and no time',
  '--timestamps': 'output events carry no times; boxrun execs BOX shows when a command began',
  '--filter': 'see: boxrun ls --status STATUS --label KEY=VALUE',
  '--format': 'see: --json',
};

/** The error for an option that `spec` does not have; null stands for no command. */
export function unknownOption(word: string, spec: CommandSpec | null): UsageError {
  const known = Object.entries(spec?.options ?? {}).flatMap(([name, { alias }]) => [
    `--${name}`,
    ...(alias === undefined ? [] : [`-${alias}`]),
  ]);
  const hint = foreignOptions[word] ?? spec?.hints?.[word] ?? meant(word, [...known, '--help', '--verbose', '--color']);
  return new UsageError(`unknown option ${word}${hint === null ? '' : `; ${hint}`}`);
}

/** The error for a command that `table` does not have. */
export function unknownCommand(word: string, table: readonly CommandSpec[]): UsageError {
  const names = table.flatMap(({ name, aliases = [] }) => [name, ...aliases]);
  const hint = (Object.hasOwn(foreignCommands, word) ? foreignCommands[word] : undefined) ?? meant(word, names);
  return new UsageError(`unknown command ${word}${hint === null ? '' : `; ${hint}`}`);
}

function meant(word: string, known: readonly string[]): string | null {
  const near = nearest(word, known);
  return near === null ? null : `did you mean ${near}?`;
}

/**
 * The word of `known` that differs from `word` least. Null if each one differs in more than two places, or in more than
 * one if `word` has at most four characters. Known words of one or two characters are never suggested.
 */
export function nearest(word: string, known: readonly string[]): string | null {
  const most = word.length <= 4 ? 1 : 2;
  const [best] = known
    .filter((each) => each.length > 2)
    .map((each) => ({ each, distance: distanceOf(word, each) }))
    .filter(({ distance }) => distance <= most)
    .sort((a, b) => a.distance - b.distance);
  return best?.each ?? null;
}

/** How many characters must be added, removed, replaced, or exchanged with the next one, to turn `a` into `b`. */
function distanceOf(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const cell = (row: number, column: number) => rows[row]?.[column] ?? Number.POSITIVE_INFINITY;
  for (let row = 1; row <= a.length; row++) {
    rows.push([row]);
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1];
      const isExchanged = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      const steps = [
        cell(row - 1, column) + 1,
        cell(row, column - 1) + 1,
        cell(row - 1, column - 1) + (isSame ? 0 : 1),
        isExchanged ? cell(row - 2, column - 2) + 1 : Number.POSITIVE_INFINITY,
      ];
      rows[row]?.push(Math.min(...steps));
    }
  }
  return cell(a.length, b.length);
}
