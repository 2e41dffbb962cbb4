// Which line is at which row of the screen: the same where lines are not wrapped, else by how many rows each takes at a
// width. Grows with the lines, and works out anew only what may have changed.
import { stripAnsi } from './ansi.ts';
import type { LogLines } from './log-lines.ts';

export interface RowLayout {
  /** Brings it up to date with the lines. */
  update(): void;
  readonly rows: number;
  /** The first row of a line. */
  rowOf(line: number): number;
  rowsOf(line: number): number;
  /** The line that a row belongs to. */
  lineAt(row: number): number;
}

/** @param columns characters in a row; null: every line is one row */
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
  /** Behind the last row of each line. */
  const ends: number[] = [];
  let settled = 0;
  let dropped = lines.dropped;
  const endOf = (line: number): number => (line < 0 ? 0 : (ends[line] ?? 0));
  return {
    update() {
      if (lines.dropped !== dropped) settled = 0;
      dropped = lines.dropped;
      ends.length = settled;
      for (let line = settled; line < lines.count; line++) {
        ends.push(endOf(line - 1) + Math.max(1, Math.ceil(widthOf(stripAnsi(lines.line(line).text)) / columns)));
      }
      settled = Math.min(lines.settled, ends.length);
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

/** Columns that a text takes where every character has its width in a terminal. */
function widthOf(text: string): number {
  if (plainText.test(text)) return text.length;
  let width = 0;
  for (const character of text) {
    if (character === '\t') width += 8 - (width % 8);
    else width += wide.test(character) ? 2 : 1;
  }
  return width;
}
