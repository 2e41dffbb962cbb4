// One line of output at its place in the list: its number, a mark if it is from stderr, and its coloured text.
// Output is always shown as text, never as HTML.
import { parseAnsi, stripAnsi, type TextStyle } from './ansi.ts';
import type { LogLine } from './log-lines.ts';
import { cutAtMatches, matchStartsOf } from './search.ts';

interface OutputLineProps {
  readonly line: LogLine;
  readonly number: number;
  /** In pixels. */
  readonly top: number;
  /** In pixels. */
  readonly height: number;
  readonly isWrapped: boolean;
  /** The text of the search in lower case; empty if there is no search. */
  readonly wanted: string;
  /** True for the match that the search shows now. */
  readonly isFound: boolean;
}

export function OutputLine({ line, number, top, height, isWrapped, wanted, isFound }: OutputLineProps) {
  const { spans } = parseAnsi(line.text, line.style);
  const starts = wanted === '' ? [] : matchStartsOf(stripAnsi(line.text), wanted);
  let offset = 0;
  return (
    <div
      class={`line ${line.stream} ${isWrapped ? 'wrapped' : ''} ${isFound ? 'found' : ''}`}
      style={{ top: `${top}px`, height: `${height}px` }}
    >
      <span class="gutter" data-number={number} data-mark={line.stream === 'stderr' ? 'E' : ''} title={line.stream} />
      <span class="text">
        {spans.map(({ text, style }, at) => {
          const pieces = cutAtMatches(text, offset, starts, wanted.length);
          offset += text.length;
          return (
            <span key={at} class={classesOf(style)} style={coloursOf(style)}>
              {pieces.map((piece, index) => (piece.isMatch ? <mark key={index}>{piece.text}</mark> : piece.text))}
            </span>
          );
        })}
      </span>
    </div>
  );
}

const switchNames = ['bold', 'dim', 'italic', 'underline', 'inverse', 'strike'] as const;

function classesOf(style: TextStyle): string {
  const { fg, bg } = style;
  const names: string[] = switchNames.filter((name) => style[name]);
  if (fg !== null && !fg.startsWith('#')) names.push(`fg-${fg}`);
  if (bg !== null && !bg.startsWith('#')) names.push(`bg-${bg}`);
  return names.join(' ');
}

function coloursOf({ fg, bg }: TextStyle): { color?: string; backgroundColor?: string } {
  return {
    ...(fg?.startsWith('#') === true ? { color: fg } : {}),
    ...(bg?.startsWith('#') === true ? { backgroundColor: bg } : {}),
  };
}
