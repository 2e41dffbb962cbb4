// Command lines that are read without yargs give the same values as with yargs. Wrong command lines are left to yargs.
import { expect, it } from 'vitest';
import type { CommandSpec } from '../../../src/cli/parsing/command.ts';
import { commandTable } from '../../../src/cli/commands/command-table.ts';
import { parseAndRun } from '../../../src/cli/parsing/parser.ts';
import { readQuickly } from '../../../src/cli/parsing/quick-words.ts';

type Values = Readonly<Record<string, unknown>>;

/** The same commands, but each one only records its values. */
function noting(specs: readonly CommandSpec[], note: (values: Values) => void): CommandSpec[] {
  return specs.map((spec) => ({
    ...spec,
    ...(spec.subcommands === undefined ? {} : { subcommands: noting(spec.subcommands, note) }),
    run: async (values) => {
      note(values);
      return 0;
    },
  }));
}

/** The values that yargs reads, without the names that yargs adds itself; null if yargs finds an error. */
async function readByYargs(words: readonly string[], names: readonly string[]): Promise<Values | null> {
  let noted: Values = {};
  const context = {
    command: words[0] === 'exec' || words[0] === 'run' ? ['true'] : null,
    interrupts: { catch: () => expect.fail('no command runs here') },
    version: '1',
    withClient: async () => expect.fail('no command runs here'),
  };
  const table = noting(commandTable, (values) => (noted = values));
  try {
    await parseAndRun(words, table, context);
  } catch {
    return null;
  }
  const wanted = Object.entries(noted).filter(([name, value]) => names.includes(name) && value !== undefined);
  return Object.fromEntries(wanted);
}

it.each([
  ['ls'],
  ['ls -q'],
  ['ls -qs running'],
  ['ls --status=stopped --json'],
  ['ls -l a=b -l c --label d=e=f'],
  ['ls --quiet --quiet=false'],
  ['ls --no-trunc'],
  ['create'],
  ['create base'],
  ['create base -n web --cpu 1 --memory 256 -d 4 --network -v /a:/b:ro -v c:/d -e A=1 -e B= -l x=y -q'],
  ['create --cpu 1 --cpu 3 base'],
  ['create base -e A=-1 --memory=512'],
  ['create 123'],
  ['create base -n 007'],
  ['create base -n 1e3 --cpu 0x10'],
  ['rm -f web'],
  ['rm web --force --grace 2.5'],
  ['rm'],
  ['rm a 007 -'],
  ['stop --all'],
  ['start -l a=b'],
  ['inspect a b'],
  ['logs web --tail 5'],
  ['run -d base'],
  ['exec -it web'],
  ['exec web -it'],
  ['exec -e A=b --workdir /tmp -u 1000:1000 --timeout 5 web'],
  ['logs web exec_1 -f'],
  ['cp - web:/x'],
  ['cp web:/x -'],
  ['cp -r a b web:/x'],
  ['cp ./a=b web:'],
  ['images'],
  ['images import base.tar --name x'],
  ['images rm x'],
  ['gc --older-than 5'],
  ['events --since 3'],
  ['completion bash'],
])('reads "%s" as yargs does', async (line) => {
  const words = line.split(' ');
  const quick = readQuickly(words, commandTable);
  if (quick === null) return; // Yargs reads it, so there is nothing to compare.
  const { spec, values } = quick;
  const names = [...Object.keys(spec.options ?? {}), ...Object.keys(spec.positionals ?? {})];
  expect(values).toEqual(await readByYargs(words, names));
});

it('reads common command lines without yargs', () => {
  for (const line of ['ls', 'create base -n web', 'rm -f web', 'exec -it web', 'logs -f web exec_1', 'cp a web:/b'])
    expect(readQuickly(line.split(' '), commandTable)?.spec.name, line).toBe(line.split(' ')[0]);
});

it.each([
  [''],
  ['nonsense'],
  ['ls web:/a web:/b'],
  ['ls --nonsense'],
  ['ls -x'],
  ['ls -s'],
  ['ls -s running -s'],
  ['ls --status nowhere'],
  ['inspect'],
  ['cp'],
  ['create base --name'],
  ['create --name='],
  ['ls --help'],
  ['ls -h'],
  ['--version'],
  ['ls --version'],
  ['images nonsense'],
  ['completion fsh'],
  ['exec web ls'],
])('leaves "%s" to yargs', (line) => {
  expect(readQuickly(line === '' ? [] : line.split(' '), commandTable)).toBeNull();
});
