// Completion: the candidates at each place of a command line.
import { expect, it } from 'vitest';
import { commandTable } from '../../../src/cli/commands/command-table.ts';
import { candidates, type NameSource } from '../../../src/cli/completion/completion.ts';

const names: NameSource = {
  boxes: async (status) => ['web', 'db', ...(status === 'running' ? [] : ['old'])],
  execs: async (box) => [`exec_of_${box}`],
  images: async () => ['base', 'alpine'],
};
const at = (line: string) => {
  const words = line.split(' ');
  return candidates(words.slice(0, -1), words.at(-1) ?? '', commandTable, names);
};

it.each([
  ['st', ['stats', 'start', 'stop']],
  ['--vers', ['--version']],
  ['rm -f web d', ['db']],
  ['images i', ['import']],
  ['rm ', ['web', 'db', 'old']],
  ['rm -f o', ['old']],
  ['exec w', ['web']],
  ['exec -t 5 w', ['web']],
  ['exec o', []],
  ['exec web ', ['--']],
  ['exec web --det', ['--detach-keys', '--detach', '--detachable']],
  ['exec web -- ', []],
  ['logs web ', ['exec_of_web']],
  ['create ', ['base', 'alpine']],
  ['create -n ', []],
  ['create base ', []],
  ['run --cpu 1 b', ['base']],
  ['ls -s r', ['running']],
  ['ls --status s', ['stopped']],
  ['completion f', ['fish']],
  ['cp w', ['web:', ':nospace', ':files']],
  ['cp ./w', [':nospace', ':files']],
  ['cp web:/', []],
  ['nothing ', []],
])('offers for "boxrun %s": %j', async (line, expected) => {
  const found = await at(line);
  expect(found).toEqual(line === 'nothing ' ? [] : expected);
});

it('offers every command as the first word', async () => {
  expect(await at('')).toEqual(commandTable.map(({ name }) => name));
});
