// Formats what the command line prints: tables, errors, progress. Results go to standard output, everything else to
// standard error. Names in tables never contain control characters, so that they cannot control a terminal.
import type { Box } from '../../shared/api.ts';
import { toBoxRunError, type BoxRunError } from '../../shared/errors.ts';
import { colored, isVerbose, widthOf, type Color } from './appearance.ts';

/** `Error: [CODE] message`, and the hint on the next line. */
export function renderError(error: BoxRunError): string {
  const label = colored('Error:', 'red', process.stderr);
  const [hintLabel, hint] = [colored('Hint:', 'yellow', process.stderr), error.hint];
  // What the program wrote that pulled is of use only to somebody who looks for the cause.
  const isShort = error.code === 'IMAGE_PULL_FAILED' && !isVerbose();
  const message = isShort ? (error.message.split('\n', 1)[0] ?? '') : error.message;
  return `${label} [${error.code}] ${message}\n${hint === undefined ? '' : `${hintLabel} ${hint}\n`}`;
}

/** Prints any error. --verbose adds where it was thrown. */
export function printError(error: unknown): void {
  process.stderr.write(renderError(toBoxRunError(error)));
  const frames = error instanceof Error ? (error.stack?.match(/^ {4}at .*$/gm) ?? []) : [];
  if (isVerbose()) process.stderr.write(frames.map((frame) => `${frame}\n`).join(''));
}

const gap = '  ';
/** No column is cut to less than this width, in characters. */
const columnWidthMin = 6;
/** Titles of columns that are useless if they are cut. */
const neverCut = new Set(['ID', 'STATUS']);

interface TableOptions {
  /** In characters; the width of the terminal when absent. Infinity: nothing is cut. */
  readonly widthMax?: number | undefined;
  /** The colour of a cell, by its text and the title of its column. */
  readonly colorOf?: (cell: string, title: string) => Color | null;
}

/**
 * Each column is as wide as its longest cell. If a line would be longer than `widthMax`, the widest columns are cut.
 */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  { widthMax = widthOf(process.stdout) ?? Infinity, colorOf }: TableOptions = {},
): string {
  const plain = rows.map((row) => row.map(withoutControls));
  const widths = header.map((title, column) => Math.max(title.length, ...plain.map((row) => row[column]?.length ?? 0)));
  const mayCut = (column: number) => !neverCut.has(header[column] ?? '') && (widths[column] ?? 0) > columnWidthMin;
  for (let excess = sum(widths) + gap.length * (widths.length - 1) - widthMax; excess > 0; excess--) {
    const widest = header
      .map((_, column) => column)
      .filter(mayCut)
      .sort((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0))[0];
    if (widest === undefined) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  const line = (cells: readonly string[], row: number) =>
    cells
      .map((cell, column) => {
        const padded = cut(cell, widths[column] ?? 0).padEnd(column === cells.length - 1 ? 0 : (widths[column] ?? 0));
        const color = row === 0 ? null : (colorOf?.(cell, header[column] ?? '') ?? null);
        return color === null ? padded : colored(padded, color, process.stdout);
      })
      .join(gap)
      .trimEnd();
  return `${[header, ...plain].map(line).join('\n')}\n`;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}

/** Replaces control and format characters by spaces, so that the text cannot control a terminal. */
export function withoutControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, ' ');
}

const statusColors: Readonly<Record<string, Color>> = {
  running: 'green',
  succeeded: 'green',
  creating: 'yellow',
  stopped: 'dim',
  canceled: 'yellow',
  error: 'red',
  failed: 'red',
};

/** The colour of a status in a table. */
export function statusColor(cell: string, title: string): Color | null {
  return title === 'STATUS' ? (statusColors[cell] ?? null) : null;
}

export function renderBoxes(boxes: readonly Box[], nowMs: number, widthMax?: number): string {
  const rows = boxes.map((box) => [
    box.id,
    box.name ?? '-',
    box.status,
    box.image,
    String(box.cpu),
    `${box.memory_mb} MiB`,
    renderAge(box.created_at, nowMs),
  ]);
  return renderTable(['ID', 'NAME', 'STATUS', 'IMAGE', 'CPU', 'MEMORY', 'CREATED'], rows, {
    widthMax,
    colorOf: statusColor,
  });
}

/** A command as a user would type it in a shell. */
export function renderCommand(cmd: readonly string[]): string {
  return cmd.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

/** How long ago `timestamp` was, in the largest unit that fits. */
export function renderAge(timestamp: string, nowMs: number): string {
  const ms = nowMs - Date.parse(timestamp);
  return `${ms < 1000 ? '0 s' : renderDuration(ms)} ago`;
}

/** A length of time, in the largest unit that fits. Below a second: in milliseconds. */
export function renderDuration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function renderBytes(bytes: number): string {
  if (bytes < 1024 * 1024) return `${Math.ceil(bytes / 1024)} KiB`;
  if (bytes < 1024 ** 3) return `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function printLines(...lines: readonly string[]): void {
  process.stdout.write(lines.map((line) => `${line}\n`).join(''));
}

/** One line of a terminal that each message overwrites. Prints nothing if the stream is not a terminal. */
export interface ProgressLine {
  show(message: string): void;
  clear(): void;
}

export function createProgressLine(stream: NodeJS.WriteStream): ProgressLine {
  let isShown = false;
  return {
    show(message) {
      if (!stream.isTTY) return;
      stream.write(
        `\r\x1b[K${message.replace(/[^\x20-\x7e\u00a0-\uffff]/g, ' ').slice(0, Math.max(20, (stream.columns || 80) - 1))}`,
      );
      isShown = true;
    },
    clear() {
      if (isShown) stream.write('\r\x1b[K');
      isShown = false;
    },
  };
}
