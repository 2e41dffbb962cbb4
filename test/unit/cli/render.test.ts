// What the command line prints.
import { expect, it } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { renderAge, renderBytes, renderError, renderTable } from '../../../src/cli/render.ts';

it('prints errors with code, and a hint where there is one', () => {
  expect(renderError(new BoxRunError('BOX_NOT_FOUND', 'there is no box'))).toBe('Error: [BOX_NOT_FOUND] there is no box\n');
  expect(renderError(new BoxRunError('UNAVAILABLE', 'gone', { hint: 'wait' }))).toBe('Error: [UNAVAILABLE] gone\nHint: wait\n');
});

it('makes columns as wide as they must be, and leaves no blanks at the end', () => {
  expect(renderTable(['A', 'LONG'], [['wide', 'x'], ['b', 'y']])).toBe('A     LONG\nwide  x\nb     y\n');
  expect(renderTable(['A', 'B'], [])).toBe('A  B\n');
});

it('tells ages in the largest unit that fits', () => {
  const now = Date.parse('2026-01-02T00:00:00Z');
  expect(renderAge('2026-01-01T23:59:30Z', now)).toBe('30 s ago');
  expect(renderAge('2026-01-01T23:58:30Z', now)).toBe('1 min ago');
  expect(renderAge('2026-01-01T20:00:00Z', now)).toBe('4 h ago');
  expect(renderAge('2025-12-30T00:00:00Z', now)).toBe('3 d ago');
  expect(renderAge('2026-01-02T00:00:05Z', now)).toBe('0 s ago');
});

it('tells sizes', () => {
  expect([1, 2048, 5 * 2 ** 20, 3 * 2 ** 30].map(renderBytes)).toEqual(['1 KiB', '2 KiB', '5.0 MiB', '3.0 GiB']);
});
