// How the command line speaks: tables, errors, progress. Results go to standard output, everything else to standard
// error. Whatever a box or an image is called, nothing that it prints here can steer a terminal.
import type { Box } from '../../shared/api.ts';
import type { BoxRunError } from '../../shared/errors.ts';

/** `Error: [CODE] message`, and below it what can be done. */
export function renderError(error: BoxRunError): string {
  return `Error: [${error.code}] ${error.message}\n${error.hint === undefined ? '' : `Hint: ${error.hint}\n`}`;
}

const gap = '  ';
/** Columns are not cut below this. */
const leastWidth = 6;
/** These are of use only as a whole. */
const neverCut = new Set(['ID', 'STATUS']);

/** Columns as wide as their longest cell; where a line would be longer than `widthMax`, the widest columns are cut. */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  widthMax = Infinity,
): string {
  const plain = rows.map((row) => row.map(withoutControls));
  const widths = header.map((title, column) => Math.max(title.length, ...plain.map((row) => row[column]?.length ?? 0)));
  const mayCut = (column: number) => !neverCut.has(header[column] ?? '') && (widths[column] ?? 0) > leastWidth;
  for (let excess = sum(widths) + gap.length * (widths.length - 1) - widthMax; excess > 0; excess--) {
    const widest = header
      .map((_, column) => column)
      .filter(mayCut)
      .sort((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0))[0];
    if (widest === undefined) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cut(cell, widths[column] ?? 0).padEnd(widths[column] ?? 0))
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

export function withoutControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, ' ');
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
  return renderTable(['ID', 'NAME', 'STATUS', 'IMAGE', 'CPU', 'MEMORY', 'CREATED'], rows, widthMax);
}

/** A command as it would be typed in a shell. */
export function renderCommand(cmd: readonly string[]): string {
  return cmd.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

/** How long ago, in the largest unit that fits. */
export function renderAge(timestamp: string, nowMs: number): string {
  return `${renderDuration(Math.max(0, nowMs - Date.parse(timestamp)))} ago`;
}

/** A length of time, in the largest unit that fits. */
export function renderDuration(ms: number): string {
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

/** One line on a terminal that is written over, and nothing where no person looks. */
export interface ProgressLine {
  show(message: string): void;
  clear(): void;
}

export function createProgressLine(stream: NodeJS.WriteStream): ProgressLine {
  let shown = false;
  return {
    show(message) {
      if (!stream.isTTY) return;
      stream.write(
        `\r\x1b[K${message.replace(/[^\x20-\x7e\u00a0-\uffff]/g, ' ').slice(0, Math.max(20, (stream.columns || 80) - 1))}`,
      );
      shown = true;
    },
    clear() {
      if (shown) stream.write('\r\x1b[K');
      shown = false;
    },
  };
}
