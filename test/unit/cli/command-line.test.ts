// How a command line is split into the words of boxrun and the command for the box, and what is said about wrong words.
import { expect, it } from 'vitest';
import { commandTable } from '../../../src/cli/commands/command-table.ts';
import { readCommandLine } from '../../../src/cli/parsing/command-line.ts';
import { nearest, unknownCommand } from '../../../src/cli/parsing/suggestions.ts';

const read = (line: string) => readCommandLine(line === '' ? [] : line.split(' '), commandTable);

it.each([
  ['exec web ls -l', 'exec web', 'ls -l'],
  ['exec web -- ls -l', 'exec web', 'ls -l'],
  ['exec -it web sh', 'exec --interactive --tty web', 'sh'],
  ['exec web -it -- sh', 'exec web --interactive --tty', 'sh'],
  ['exec web ls -t 5 -- x', 'exec web', 'ls -t 5 -- x'],
  ['exec web -- ls -- x', 'exec web', 'ls -- x'],
  ['exec web -- -x', 'exec web', '-x'],
  ['exec -e A=1 -w /tmp web env', 'exec --env A=1 --workdir /tmp web', 'env'],
  ['exec -eA=1 web env', 'exec --env=A=1 web', 'env'],
  ['exec -t web ls', 'exec --tty web', 'ls'],
  ['exec -t 5 web ls', 'exec --timeout 5 web', 'ls'],
  ['exec web -t 0.5 -- ls', 'exec web --timeout 0.5', 'ls'],
  ['exec -t5 web ls', 'exec --timeout 5 web', 'ls'],
  ['exec -t=5 web ls', 'exec --timeout 5 web', 'ls'],
  ['exec -dt 5 web ls', 'exec -d --timeout 5 web', 'ls'],
  ['exec -it 5 ls', 'exec --interactive --tty 5', 'ls'],
  ['exec -ti 5 ls', 'exec --tty --interactive 5', 'ls'],
  ['exec --tty 5 ls', 'exec --tty 5', 'ls'],
  ['run base echo --help', 'run base', 'echo --help'],
  ['run -d 4 base true', 'run --disk 4 base', 'true'],
  ['run -d base sleep 5', 'run --detach base', 'sleep 5'],
  ['run -it --rm base sh', 'run --interactive --tty --rm base', 'sh'],
  ['run -t 5 -m 1g base true', 'run --timeout 5 --memory 1g base', 'true'],
])('splits "%s"', (line, own, command) => {
  const split = read(line);
  expect([split.own.join(' '), split.command?.join(' ')]).toEqual([own, command]);
});

it.each([
  ['', ''],
  ['ps -a', 'ls --all'],
  ['list -q', 'ls --quiet'],
  ['image ls', 'images list'],
  ['create -d 8 base', 'create --disk 8 base'],
  ['create -m512m base', 'create --memory=512m base'],
  ['create base -e A=-1', 'create base --env A=-1'],
  ['rm -f a b c', 'rm --force a b c'],
  ['cp - web:/x', 'cp - web:/x'],
  ['-v', '--version'],
  ['--help', '--help'],
  ['exec --help', 'exec --help'],
  ['exec web --help', 'exec web --help'],
  ['exec web', 'exec web'],
  ['logs -f -n5 web', 'logs --follow --tail=5 web'],
  ['ls --no-quiet', 'ls --quiet=false'],
  ['ls --no-trunc', 'ls --no-trunc'],
  ['create -n', 'create --name'],
])('gives the words of "%s" one form', (line, own) => {
  expect(read(line)).toMatchObject({ own: own === '' ? [] : own.split(' '), command: null });
});

it('takes the general options at every place before the command for the box', () => {
  const { own, general, command } = read('--verbose exec --color=never web ls --color always');
  expect({ own, general, command }).toEqual({
    own: ['exec', 'web'],
    general: { isVerbose: true, color: 'never' },
    command: ['ls', '--color', 'always'],
  });
});

it.each([
  ['exec web -x', 'put -x before the box'],
  ['exec web -it sh', 'put -it before the box'],
  ['create --nmae web', 'did you mean --name?'],
  ['create -p 80:80 base', 'BoxRun publishes no ports'],
  ['create -it base', 'boxrun exec -it BOX sh'],
  ['stop -t 10 web', '--grace'],
  ['logs --timestamps web', 'carry no times'],
  ['ls --color blue', '--color must be'],
])('refuses "%s" with a hint', (line, hint) => {
  expect(() => read(line)).toThrow(hint);
});

it.each([
  ['crate', 'did you mean create?'],
  ['strat', 'did you mean start?'],
  ['push', 'sends no images to a registry'],
  ['constructor', 'unknown command constructor'],
])('says what may be meant by the command "%s"', (word, hint) => {
  expect(unknownCommand(word, commandTable).message).toContain(hint);
});

it('suggests nothing for a word that resembles no other word', () => {
  expect(nearest('frobnicate', ['create', 'start'])).toBeNull();
});
