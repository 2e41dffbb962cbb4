// The lines of a command's output, in the order in which they began; each belongs to one stream. Holds a million lines;
// of more the oldest are dropped, and counted. Filled by exec-output.ts, read by the view and the search.
import { parseAnsi, plainStyle, type TextStyle } from './ansi.ts';

export type StreamName = 'stdout' | 'stderr';

export interface LogLine {
  /** With its escape sequences. */
  readonly text: string;
  readonly stream: StreamName;
  /** What goes on from the line before of that stream. */
  readonly style: TextStyle;
}

export interface LogLines {
  readonly count: number;
  /** Lines that were dropped before the first one. */
  readonly dropped: number;
  /** Characters of the longest line. */
  readonly longest: number;
  /** Lines before this one change no more. */
  readonly settled: number;
  append(stream: StreamName, text: string): void;
  line(index: number): LogLine;
}

interface Bounds {
  readonly linesMax: number;
  readonly charsMax: number;
  /** A longer line is shown as several. */
  readonly lineCharsMax: number;
}

const defaultBounds: Bounds = { linesMax: 1_000_000, charsMax: 256 * 1024 * 1024, lineCharsMax: 8_192 };

export function createLogLines(bounds: Bounds = defaultBounds): LogLines {
  const texts: string[] = [];
  const streams: StreamName[] = [];
  const styles: TextStyle[] = [];
  /** The line of each stream that has no end yet. */
  const open = new Map<StreamName, number>();
  const current = new Map<StreamName, TextStyle>();
  let chars = 0;
  let dropped = 0;
  let longest = 0;

  /** Adds to the open line of the stream, or begins one. */
  function add(stream: StreamName, piece: string, isEnded: boolean): void {
    let index = open.get(stream);
    if (index === undefined) {
      index = texts.push('') - 1;
      streams.push(stream);
      styles.push(current.get(stream) ?? plainStyle);
    }
    const before = texts[index] ?? '';
    const text = overwritten(before + piece, isEnded);
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

  function dropOldest(): void {
    if (texts.length <= bounds.linesMax && chars <= bounds.charsMax) return;
    // Many at once: moving the rest takes time.
    const gone = Math.max(1, Math.ceil(texts.length / 10));
    for (const text of texts.splice(0, gone)) chars -= text.length;
    streams.splice(0, gone);
    styles.splice(0, gone);
    dropped += gone;
    for (const [stream, index] of open) {
      if (index < gone) open.delete(stream);
      else open.set(stream, index - gone);
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
    get settled() {
      return Math.min(texts.length, ...open.values());
    },
    append(stream, text) {
      let start = 0;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
        addLong(stream, text.slice(start, end), true);
        start = end + 1;
      }
      if (start < text.length) addLong(stream, text.slice(start), false);
      dropOldest();
    },
    line: (index) => ({
      text: texts[index] ?? '',
      stream: streams[index] ?? 'stdout',
      style: styles[index] ?? plainStyle,
    }),
  };
}

/** What a carriage return has left of a line: what was written last. One at its end waits for what comes. */
function overwritten(text: string, isEnded: boolean): string {
  if (!text.includes('\r')) return text;
  const whole = isEnded ? text.replace(/\r+$/, '') : text;
  const last = whole.lastIndexOf('\r', whole.length - 2);
  return last < 0 ? whole : whole.slice(last + 1);
}
