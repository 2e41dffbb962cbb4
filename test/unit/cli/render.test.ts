// The texts that the command line prints: errors, tables, commands, times and sizes.
import { expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import {
  renderAge,
  renderBytes,
  renderCommand,
  renderDuration,
  renderError,
  renderTable,
} from '../../../src/cli/render/render.ts';

it('prints the code of an error, and its hint if it has one', () => {
  expect(renderError(new BoxRunError('BOX_NOT_FOUND', 'there is no box'))).toBe(
    'Error: [BOX_NOT_FOUND] there is no box\n',
  );
  expect(renderError(new BoxRunError('UNAVAILABLE', 'gone', { hint: 'wait' }))).toBe(
    'Error: [UNAVAILABLE] gone\nHint: wait\n',
  );
});

it('makes columns only as wide as needed, without spaces at the end of a line', () => {
  expect(
    renderTable(
      ['A', 'LONG'],
      [
        ['wide', 'x'],
        ['b', 'y'],
      ],
    ),
  ).toBe('A     LONG\nwide  x\nb     y\n');
  expect(renderTable(['A', 'B'], [])).toBe('A  B\n');
});

it('cuts the widest columns if a table does not fit, but never an id', () => {
  const row = ['box_AAAAAAAAAAAA', 'a-name-of-twenty-two-c', 'x'.repeat(40)];
  const lines = renderTable(['ID', 'NAME', 'IMAGE'], [row], { widthMax: 50 }).trimEnd().split('\n');
  expect(Math.max(...lines.map((line) => line.length))).toBe(50);
  expect(lines[1]).toMatch(/^box_AAAAAAAAAAAA  a-name-of-tw\S*…  x+…$/);
  expect(renderTable(['ID', 'NAME', 'IMAGE'], [row])).toContain('x'.repeat(40));
  expect(renderTable(['ID'], [['box_AAAAAAAAAAAA']], { widthMax: 5 })).toContain('box_AAAAAAAAAAAA');
});

it('removes control characters from cells', () => {
  expect(renderTable(['COMMAND'], [['a\x1b[2J\nb\u202e\u2028']])).toBe('COMMAND\na [2J b\n');
});

it('prints a command as a user would type it in a shell', () => {
  expect(renderCommand(['sh', '-c', "echo 'a b'", ''])).toBe("sh -c 'echo '\\''a b'\\''' ''");
});

it('prints lengths of time', () => {
  expect([0, 999, 1000, 59_999, 60_000, 7_200_000, 172_800_000].map(renderDuration)).toEqual([
    '0 ms',
    '999 ms',
    '1 s',
    '59 s',
    '1 min',
    '2 h',
    '2 d',
  ]);
});

it('prints ages in the largest unit that fits', () => {
  const now = Date.parse('2026-01-02T00:00:00Z');
  expect(renderAge('2026-01-01T23:59:30Z', now)).toBe('30 s ago');
  expect(renderAge('2026-01-01T23:58:30Z', now)).toBe('1 min ago');
  expect(renderAge('2026-01-01T20:00:00Z', now)).toBe('4 h ago');
  expect(renderAge('2025-12-30T00:00:00Z', now)).toBe('3 d ago');
  expect(renderAge('2026-01-02T00:00:05Z', now)).toBe('0 s ago');
});

it('prints sizes', () => {
  expect([1, 2048, 5 * 2 ** 20, 3 * 2 ** 30].map(renderBytes)).toEqual(['1 KiB', '2 KiB', '5.0 MiB', '3.0 GiB']);
});
