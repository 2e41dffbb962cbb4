// The output of a command in the dashboard: colours, lines of two streams, rows of wrapped lines, and the search.
import { expect, it } from 'vitest';
import { parseAnsi, plainStyle, stripAnsi } from '../../../src/ui/output/ansi.ts';
import { readInto } from '../../../src/ui/output/exec-output.ts';
import { createLogLines, type LogLines, type StreamName } from '../../../src/ui/output/log-lines.ts';
import { createRowLayout } from '../../../src/ui/output/row-layout.ts';
import { createSearch, cutAtMatches, matchStartsOf } from '../../../src/ui/output/search.ts';

const textsOf = (lines: LogLines) => Array.from({ length: lines.count }, (_, index) => lines.line(index).text);
const logOf = (stream: StreamName, text: string) =>
  ({ type: 'log', stream, seq: 1, text, bytes: new TextEncoder().encode(text) }) as const;

it('reads colours of the palettes of 16 and 256, RGB colours, and resets', () => {
  const { spans, end } = parseAnsi('a\x1b[1;31mb\x1b[38;5;196mc\x1b[48;2;1;2;3md\x1b[0me\x1b[92m', plainStyle);
  expect(spans.map(({ text, style }) => [text, style.fg, style.bg, style.bold])).toEqual([
    ['a', null, null, false],
    ['b', '1', null, true],
    ['c', '#ff0000', null, true],
    ['d', '#ff0000', '#010203', true],
    ['e', null, null, false],
  ]);
  expect(end).toEqual({ ...plainStyle, fg: '10' });
});

it('removes every other escape sequence, complete or cut off', () => {
  expect(stripAnsi('a\x1b[2Kb\x1b]0;title\x07c\x1b(Bd\x08e\x1b[3')).toBe('abcde');
  expect(stripAnsi('<b>\ttab</b>')).toBe('<b>\ttab</b>');
});

it('keeps the lines of two streams complete if their pieces alternate', () => {
  const lines = createLogLines();
  lines.append('stdout', 'one\ntw');
  lines.append('stderr', 'error\n');
  lines.append('stdout', 'o\r\nprogress 1\rprogress 2');
  lines.append('stdout', '\rdone\n');
  expect(textsOf(lines)).toEqual(['one', 'two', 'error', 'done']);
  expect(lines.line(2).stream).toBe('stderr');
});

it('continues a style on the next line', () => {
  const lines = createLogLines();
  lines.append('stdout', '\x1b[31mred\nstill\x1b[0m\nplain\n');
  expect([0, 1, 2].map((index) => lines.line(index).style.fg)).toEqual([null, '1', null]);
});

it('removes the oldest lines above its bounds, and cuts lines that are too long', () => {
  const lines = createLogLines({ linesMax: 10, charsMax: 1_000, lineCharsMax: 4 });
  lines.append('stdout', 'abcdefghij\n');
  expect(textsOf(lines)).toEqual(['abcd', 'efgh', 'ij']);
  for (let number = 0; number < 50; number++) lines.append('stdout', `${number}\n`);
  expect(lines.count).toBeLessThanOrEqual(10);
  expect(lines.count + lines.dropped).toBe(53);
  expect(lines.line(lines.count - 1).text).toBe('49');
});

it('finds the rows of wrapped lines while lines are added', () => {
  const lines = createLogLines();
  const layout = createRowLayout(lines, 10);
  lines.append('stdout', `${'x'.repeat(25)}\nshort\n漢字漢字漢字`);
  layout.update();
  expect([layout.rows, layout.rowOf(1), layout.rowOf(2), layout.rowsOf(2)]).toEqual([6, 3, 4, 2]);
  expect([0, 2, 3, 4, 5].map((row) => layout.lineAt(row))).toEqual([0, 0, 1, 2, 2]);
  lines.append('stdout', 'yyyyyyyyyyyyyyyy\nlast\n');
  layout.update();
  expect([layout.rowsOf(2), layout.rows]).toEqual([3, 8]);
});

it('searches a million lines in short steps, and later lines too', () => {
  const lines = createLogLines();
  lines.append(
    'stdout',
    Array.from({ length: 1_000_000 }, (_, number) => (number % 100_000 === 7 ? '\x1b[31mNee\x1b[0mdle' : 'hay')).join(
      '\n',
    ) + '\n',
  );
  const search = createSearch(lines, 'needle');
  let steps = 0;
  while (search.advance(2)) steps++;
  expect(steps).toBeGreaterThan(3);
  expect(search.matches).toHaveLength(10);
  lines.append('stderr', 'a needle\n');
  search.advance(10);
  expect(search.matches.at(-1)).toBe(1_000_000);
});

it('marks a match that lies in two spans', () => {
  const starts = matchStartsOf('Needle in needles', 'needle');
  expect(starts).toEqual([0, 10]);
  expect(cutAtMatches('Nee', 0, starts, 6)).toEqual([{ text: 'Nee', isMatch: true }]);
  expect(cutAtMatches('dle in needles', 3, starts, 6)).toEqual([
    { text: 'dle', isMatch: true },
    { text: ' in ', isMatch: false },
    { text: 'needle', isMatch: true },
    { text: 's', isMatch: false },
  ]);
});

it('finds a last line without a newline when the command has ended, and the lines after it', async () => {
  const lines = createLogLines();
  const search = createSearch(lines, 'needle');
  async function* events() {
    yield logOf('stderr', 'prompt needle: ');
    yield logOf('stdout', 'one\na needle\n');
    search.advance(10);
    expect(search.matches).toEqual([]); // The open line of stderr comes first and may still change.
    yield logOf('stdout', 'last needle\r');
  }
  await readInto(lines, events(), () => undefined);
  search.advance(10);
  expect(search.matches).toEqual([0, 2, 3]);
  expect(textsOf(lines)).toEqual(['prompt needle: ', 'one', 'a needle', 'last needle']);
});
