// Turns a line of program output into spans of text with a style (colours and SGR sequences). It has no side effects.
// It removes all other escape sequences and control characters, because the dashboard shows a log and not a screen.

export interface TextStyle {
  /** A number from `0` to `15` (a colour of the theme), or `#rrggbb`; null for the default colour. */
  readonly fg: string | null;
  readonly bg: string | null;
  readonly bold: boolean;
  readonly dim: boolean;
  readonly italic: boolean;
  readonly underline: boolean;
  readonly inverse: boolean;
  readonly strike: boolean;
}

export interface Span {
  readonly text: string;
  readonly style: TextStyle;
}

export const plainStyle: TextStyle = {
  fg: null,
  bg: null,
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  inverse: false,
  strike: false,
};

/** CSI, OSC and other escape sequences, also cut off at the end of the text; and control characters except tab. */
const sequences =
  /\x1b\[[0-?]*[ -/]*(?:[@-~]|$)|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -/]*(?:[0-~]|$)|[\x00-\x08\x0b-\x1f\x7f]/g;
const anyControl = /[\x00-\x08\x0b-\x1f\x7f]/;

/**
 * Reads one line.
 * @param start the style at the end of the previous line: a style goes on over the end of a line
 */
export function parseAnsi(
  line: string,
  start: TextStyle,
): { readonly spans: readonly Span[]; readonly end: TextStyle } {
  if (!anyControl.test(line)) return { spans: line === '' ? [] : [{ text: line, style: start }], end: start };
  const spans: Span[] = [];
  let style = start;
  let at = 0;
  const push = (end: number): void => {
    if (end > at) spans.push({ text: line.slice(at, end), style });
  };
  for (const match of line.matchAll(sequences)) {
    push(match.index);
    at = match.index + match[0].length;
    if (match[0].startsWith('\x1b[') && match[0].endsWith('m')) style = applySgr(style, match[0].slice(2, -1));
  }
  push(line.length);
  return { spans, end: style };
}

/** The text without escape sequences and control characters. */
export function stripAnsi(line: string): string {
  return anyControl.test(line) ? line.replaceAll(sequences, '') : line;
}

const switches: Readonly<Record<number, Partial<TextStyle>>> = {
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  4: { underline: true },
  7: { inverse: true },
  9: { strike: true },
  21: { underline: true },
  22: { bold: false, dim: false },
  23: { italic: false },
  24: { underline: false },
  27: { inverse: false },
  29: { strike: false },
  39: { fg: null },
  49: { bg: null },
};

function applySgr(before: TextStyle, parameters: string): TextStyle {
  const codes = parameters.split(/[;:]/).map((text) => (text === '' ? 0 : Number(text)));
  let style = before;
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at] ?? 0;
    if (code === 38 || code === 48) {
      const [colour, used] = extendedColour(codes.slice(at + 1));
      style = { ...style, [code === 38 ? 'fg' : 'bg']: colour };
      at += used;
    } else if (code === 0) style = plainStyle;
    else if (code >= 30 && code <= 37) style = { ...style, fg: String(code - 30) };
    else if (code >= 40 && code <= 47) style = { ...style, bg: String(code - 40) };
    else if (code >= 90 && code <= 97) style = { ...style, fg: String(code - 82) };
    else if (code >= 100 && code <= 107) style = { ...style, bg: String(code - 92) };
    else style = { ...style, ...switches[code] };
  }
  return style;
}

/** Reads the numbers after the 38 in `38;5;N` or `38;2;R;G;B`. Gives the colour and how many numbers it used. */
function extendedColour([kind, ...rest]: readonly number[]): [colour: string | null, used: number] {
  if (kind === 2) return [hex(rest[0], rest[1], rest[2]), 4];
  if (kind === 5) return [paletteColour(rest[0] ?? 0), 2];
  return [null, 1];
}

/** A colour of the palette of 256: 16 colours of the theme, a cube of 6 × 6 × 6 colours, and 24 greys. */
function paletteColour(number: number): string {
  if (number < 16) return String(number);
  if (number >= 232) return hex(8 + (number - 232) * 10, 8 + (number - 232) * 10, 8 + (number - 232) * 10);
  const level = (value: number): number => (value === 0 ? 0 : 55 + value * 40);
  const place = number - 16;
  return hex(level(Math.floor(place / 36)), level(Math.floor(place / 6) % 6), level(place % 6));
}

function hex(...parts: readonly (number | undefined)[]): string {
  return `#${parts.map((part = 0) => Math.max(0, Math.min(255, part)).toString(16).padStart(2, '0')).join('')}`;
}
