// The lines in which a text stands, whatever its case. Looks a little at a time, so that the page stays smooth over a
// million lines, and goes on as lines come. Lines are known by their number in the whole output: dropping old ones
// changes none.
import { stripAnsi } from './ansi.ts';
import type { LogLines } from './log-lines.ts';

export interface Search {
  /** In lower case. */
  readonly text: string;
  readonly matches: readonly number[];
  /** Looks for `budgetMs` milliseconds at the most; false when everything there is was looked at. */
  advance(budgetMs: number): boolean;
}

/** Lines between two looks at the clock. */
const stepLines = 500;
const matchesMax = 100_000;

export function createSearch(lines: LogLines, wanted: string): Search {
  const text = wanted.toLowerCase();
  const matches: number[] = [];
  let next = lines.dropped;
  return {
    text,
    matches,
    advance(budgetMs) {
      const until = performance.now() + budgetMs;
      next = Math.max(next, lines.dropped);
      // A line without its end may yet become a match.
      const end = lines.dropped + lines.settled;
      while (next < end && matches.length < matchesMax) {
        for (const last = Math.min(end, next + stepLines); next < last; next++) {
          if (
            stripAnsi(lines.line(next - lines.dropped).text)
              .toLowerCase()
              .includes(text)
          )
            matches.push(next);
        }
        if (performance.now() > until) return true;
      }
      return false;
    },
  };
}

export interface Piece {
  readonly text: string;
  readonly isMatch: boolean;
}

/**
 * `text` cut where `wanted` (in lower case) begins and ends in the line that it is part of: the line begins `offset`
 * before it.
 */
export function cutAtMatches(text: string, offset: number, matchStarts: readonly number[], length: number): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (const start of matchStarts) {
    const from = Math.max(0, start - offset);
    const to = Math.min(text.length, start + length - offset);
    if (to <= at || from >= text.length) continue;
    if (from > at) pieces.push({ text: text.slice(at, from), isMatch: false });
    pieces.push({ text: text.slice(Math.max(at, from), to), isMatch: true });
    at = to;
  }
  if (at < text.length) pieces.push({ text: text.slice(at), isMatch: false });
  return pieces;
}

/** Where `wanted` (in lower case) begins in a line. */
export function matchStartsOf(line: string, wanted: string): number[] {
  if (wanted === '') return [];
  const starts: number[] = [];
  const lower = line.toLowerCase();
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, at + wanted.length)) starts.push(at);
  return starts;
}
