// How the command line speaks: tables, errors, progress. Results go to standard output, everything else to standard error.
import type { Box } from '../shared/api.ts';
import type { BoxRunError } from '../shared/errors.ts';

/** `Error: [CODE] message`, and below it what can be done. */
export function renderError(error: BoxRunError): string {
  return `Error: [${error.code}] ${error.message}\n${error.hint === undefined ? '' : `Hint: ${error.hint}\n`}`;
}

/** Columns as wide as their longest cell. */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, column) => (column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  ');
  return `${[header, ...rows].map(line).join('\n')}\n`;
}

export function renderBoxes(boxes: readonly Box[], nowMs: number): string {
  const rows = boxes.map((box) => [
    box.id, box.name ?? '-', box.status, box.image, String(box.cpu), `${box.memory_mb} MiB`, renderAge(box.created_at, nowMs),
  ]);
  return renderTable(['ID', 'NAME', 'STATUS', 'IMAGE', 'CPU', 'MEMORY', 'CREATED'], rows);
}

/** How long ago, in the largest unit that fits. */
export function renderAge(timestamp: string, nowMs: number): string {
  const seconds = Math.max(0, Math.floor((nowMs - Date.parse(timestamp)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export function renderBytes(bytes: number): string {
  if (bytes < 1024 * 1024) return `${Math.ceil(bytes / 1024)} KiB`;
  if (bytes < 1024 ** 3) return `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
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
      stream.write(`\r\x1b[K${message.replace(/[^\x20-\x7e\u00a0-\uffff]/g, ' ').slice(0, Math.max(20, (stream.columns || 80) - 1))}`);
      shown = true;
    },
    clear() {
      if (shown) stream.write('\r\x1b[K');
      shown = false;
    },
  };
}
