// Finds the lines that contain a text; upper and lower case are the same. It searches in short steps, so that the page
// stays responsive with a million lines, and goes on when new lines come. A match is the number of the line in the
// whole output, so it stays correct when old lines are removed. The search stops at `matchesMax` matches.
import { stripAnsi } from './ansi.ts';
import type { LogLines } from './log-lines.ts';

export interface Search {
  /** In lower case. */
  readonly text: string;
  readonly matches: readonly number[];
  /** Searches for at most `budgetMs` milliseconds. Returns true if more lines are left to search. */
  advance(budgetMs: number): boolean;
}

/** Lines that are searched before the clock is read again. */
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
      // Lines from the first open line on, of either stream, are not searched until that line ends.
      const end = lines.dropped + lines.settledCount;
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
 * Cuts a part of a line at the starts and ends of matches.
 * @param text the part of the line
 * @param offset where the part begins in the line
 * @param matchStarts where matches begin in the line
 * @param length of a match
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

/** The places in `line` at which `wanted` begins. `wanted` must be in lower case. */
export function matchStartsOf(line: string, wanted: string): number[] {
  if (wanted === '') return [];
  const starts: number[] = [];
  const lower = line.toLowerCase();
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, at + wanted.length)) starts.push(at);
  return starts;
}
