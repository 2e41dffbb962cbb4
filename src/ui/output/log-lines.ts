// The lines of a command's output, in the order in which they began. Each line belongs to one stream. It holds at most
// a million lines and 256 M characters; then it removes the oldest lines and counts them.
import { parseAnsi, plainStyle, type TextStyle } from './ansi.ts';

export type StreamName = 'stdout' | 'stderr';

export interface LogLine {
  /** Including its escape sequences. */
  readonly text: string;
  readonly stream: StreamName;
  /** The style at its start, which comes from the previous line of the same stream. */
  readonly style: TextStyle;
}

export interface LogLines {
  readonly count: number;
  /** How many of the oldest lines were removed. */
  readonly dropped: number;
  /** Length of the longest line, in characters. */
  readonly longest: number;
  /** Lines before this index do not change any more. */
  readonly settledCount: number;
  append(stream: StreamName, text: string): void;
  /** Ends the open lines of both streams, because no more output comes. */
  end(): void;
  line(index: number): LogLine;
}

interface Bounds {
  readonly linesMax: number;
  readonly charsMax: number;
  /** A longer line is cut into several lines. */
  readonly lineCharsMax: number;
}

const defaultBounds: Bounds = { linesMax: 1_000_000, charsMax: 256 * 1024 * 1024, lineCharsMax: 8_192 };

export function createLogLines(bounds: Bounds = defaultBounds): LogLines {
  const texts: string[] = [];
  const streams: StreamName[] = [];
  const styles: TextStyle[] = [];
  /** For each stream, the index of its last line if that line has no end yet. */
  const open = new Map<StreamName, number>();
  const current = new Map<StreamName, TextStyle>();
  let chars = 0;
  let dropped = 0;
  let longest = 0;

  /** Adds to the open line of the stream. Begins a line if there is none. */
  function add(stream: StreamName, piece: string, isEnded: boolean): void {
    let index = open.get(stream);
    if (index === undefined) {
      index = texts.push('') - 1;
      streams.push(stream);
      styles.push(current.get(stream) ?? plainStyle);
    }
    const before = texts[index] ?? '';
    const text = applyCarriageReturns(before + piece, isEnded);
    chars += text.length - before.length;
    texts[index] = text;
    longest = Math.max(longest, Math.min(text.length, bounds.lineCharsMax));
    if (isEnded || text.length >= bounds.lineCharsMax) {
      open.delete(stream);
      current.set(stream, parseAnsi(text, styles[index] ?? plainStyle).end);
    } else {
      open.set(stream, index);
    }
  }

  function addLong(stream: StreamName, piece: string, isEnded: boolean): void {
    let rest = piece;
    for (;;) {
      const index = open.get(stream);
      const room = bounds.lineCharsMax - (index === undefined ? 0 : (texts[index] ?? '').length);
      if (rest.length <= room) break;
      add(stream, rest.slice(0, room), false);
      rest = rest.slice(room);
    }
    add(stream, rest, isEnded);
  }

  function removeOldest(): void {
    if (texts.length <= bounds.linesMax && chars <= bounds.charsMax) return;
    // Removes a tenth of the lines at once, because `splice` moves all lines that stay.
    const count = Math.max(1, Math.ceil(texts.length / 10));
    for (const text of texts.splice(0, count)) chars -= text.length;
    streams.splice(0, count);
    styles.splice(0, count);
    dropped += count;
    for (const [stream, index] of open) {
      if (index < count) open.delete(stream);
      else open.set(stream, index - count);
    }
  }

  return {
    get count() {
      return texts.length;
    },
    get dropped() {
      return dropped;
    },
    get longest() {
      return longest;
    },
    get settledCount() {
      return Math.min(texts.length, ...open.values());
    },
    append(stream, text) {
      let start = 0;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
        addLong(stream, text.slice(start, end), true);
        start = end + 1;
      }
      if (start < text.length) addLong(stream, text.slice(start), false);
      removeOldest();
    },
    end() {
      for (const stream of [...open.keys()]) add(stream, '', true);
    },
    line: (index) => ({
      text: texts[index] ?? '',
      stream: streams[index] ?? 'stdout',
      style: styles[index] ?? plainStyle,
    }),
  };
}

/**
 * Applies carriage returns: only the text after the last one stays. A carriage return at the end of an open line is
 * kept, because it may belong to a line end (CR LF).
 */
function applyCarriageReturns(text: string, isEnded: boolean): string {
  if (!text.includes('\r')) return text;
  const whole = isEnded ? text.replace(/\r+$/, '') : text;
  const last = whole.lastIndexOf('\r', whole.length - 2);
  return last < 0 ? whole : whole.slice(last + 1);
}
