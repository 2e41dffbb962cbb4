// What boxes use, as a table for people and as fields for programs. An engine does not say everything: then the table
// has a dash, and a field is null.
import type { Box, BoxStats } from '../../sdk/index.ts';
import { renderBytes, renderTable } from './render.ts';

export interface BoxUse {
  readonly box: Box;
  readonly stats: BoxStats;
  /** The earlier answer for the same box; null if there is none. */
  readonly before: BoxStats | null;
}

/** The use of CPUs between the two answers: 0.5 is half of one CPU. */
function cpuUsed({ stats, before }: BoxUse): number | null {
  if (before?.cpu_seconds === undefined || before.cpu_seconds === null || stats.cpu_seconds === null) return null;
  const seconds = (Date.parse(stats.at) - Date.parse(before.at)) / 1000;
  // A box that was started again counts from 0 again.
  return seconds > 0 ? Math.max(0, stats.cpu_seconds - before.cpu_seconds) / seconds : null;
}

function cpusOf({ box }: BoxUse): number {
  return box.cpu_limit ?? box.cpu;
}

export function statsLine(use: BoxUse): Readonly<Record<string, unknown>> {
  const { box, stats } = use;
  return { id: box.id, name: box.name, cpu_used: cpuUsed(use), cpu_limit: cpusOf(use), ...stats };
}

/** @param isWhole cuts nothing to the width of the terminal */
export function renderStats(uses: readonly BoxUse[], isWhole: boolean): string {
  const rows = uses.map((use) => {
    const { box, stats } = use;
    const used = cpuUsed(use);
    return [
      box.id,
      box.name ?? '-',
      used === null ? '-' : `${(used * 100).toFixed(1)} %`,
      String(cpusOf(use)),
      pair(stats.memory_bytes, stats.memory_limit_bytes),
      pair(stats.disk_used_bytes, stats.disk_size_bytes),
      pair(stats.network_received_bytes, stats.network_sent_bytes),
      stats.processes === null ? '-' : String(stats.processes),
    ];
  });
  const header = ['ID', 'NAME', 'CPU', 'CPUS', 'MEMORY', 'DISK', 'NET IN / OUT', 'PROCESSES'];
  return renderTable(header, rows, isWhole ? { widthMax: Infinity } : {});
}

function pair(one: number | null, other: number | null): string {
  if (one === null && other === null) return '-';
  return `${one === null ? '-' : renderBytes(one)} / ${other === null ? '-' : renderBytes(other)}`;
}
