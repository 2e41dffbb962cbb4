// Maps lines of output to rows of the screen. Without wrapping, each line is one row. With wrapping, a line takes as
// many rows as its width needs. An update computes only the lines that are new or may have changed.
import { stripAnsi } from './ansi.ts';
import type { LogLines } from './log-lines.ts';

export interface RowLayout {
  /** Must be called after lines have changed, before the other methods. */
  update(): void;
  /** Number of rows of all lines. */
  readonly rows: number;
  /** The first row of a line. */
  rowOf(line: number): number;
  /** Number of rows of a line. */
  rowsOf(line: number): number;
  /** The line to which a row belongs. */
  lineAt(row: number): number;
}

/** @param columns width of a row in characters; null: lines are not wrapped */
export function createRowLayout(lines: LogLines, columns: number | null): RowLayout {
  if (columns === null) {
    return {
      update: () => undefined,
      get rows() {
        return lines.count;
      },
      rowOf: (line) => line,
      rowsOf: () => 1,
      lineAt: (row) => row,
    };
  }
  /** For each line, the row after its last row. */
  const ends: number[] = [];
  /** How many entries of `ends` cannot change any more. */
  let settledEnds = 0;
  let dropped = lines.dropped;
  const endOf = (line: number): number => (line < 0 ? 0 : (ends[line] ?? 0));
  return {
    update() {
      if (lines.dropped !== dropped) settledEnds = 0;
      dropped = lines.dropped;
      ends.length = settledEnds;
      for (let line = settledEnds; line < lines.count; line++) {
        ends.push(endOf(line - 1) + Math.max(1, Math.ceil(widthOf(stripAnsi(lines.line(line).text)) / columns)));
      }
      settledEnds = Math.min(lines.settledCount, ends.length);
    },
    get rows() {
      return endOf(ends.length - 1);
    },
    rowOf: (line) => endOf(line - 1),
    rowsOf: (line) => endOf(line) - endOf(line - 1),
    lineAt(row) {
      let low = 0;
      let high = ends.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (endOf(middle) > row) high = middle;
        else low = middle + 1;
      }
      return low;
    },
  };
}

const plainText = /^[\x20-\x7e]*$/;
const wide = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\u{1f300}-\u{1faff}]/u;

/** The width of a text in columns of a terminal: wide characters (such as Chinese ones) take two. */
function widthOf(text: string): number {
  if (plainText.test(text)) return text.length;
  let width = 0;
  for (const character of text) {
    if (character === '\t') width += 8 - (width % 8);
    else width += wide.test(character) ? 2 : 1;
  }
  return width;
}
