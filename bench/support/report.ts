// Writes the results as a table, and as results.json together with a description of the machine.
// results.json keeps older figures that were not measured again.
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { spawnSync } from 'node:child_process';
import type { Measure } from './measure.ts';
import { places } from './places.ts';

const headings = ['benchmark', 'unit', 'ours', 'reference', 'ratio', 'goal', ''];

export function renderTable(measures: readonly Measure[]): string {
  const rows = [
    headings,
    ...measures.map(({ name, unit, ours, reference, ratio, goal }) => [
      name,
      unit,
      shown(ours),
      reference === null ? '' : shown(reference),
      ratio === null ? '' : ratio.toFixed(2),
      goal?.text ?? '',
      goal === null ? '' : goal.met ? 'met' : 'MISSED',
    ]),
  ];
  const widths = headings.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function shown(value: number): string {
  return Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(2);
}

/** Saves the results. Older figures that were not measured again stay, unless `isWhole`. */
export function saveResults(measures: readonly Measure[], isWhole: boolean): void {
  const names = new Set(measures.map(({ name }) => name));
  const kept = isWhole ? [] : savedMeasures().filter(({ name }) => !names.has(name));
  const results = { machine: machine(), measures: [...kept, ...measures.map(rounded)] };
  writeFileSync(places.results, `${JSON.stringify(results, null, 2)}\n`);
}

function savedMeasures(): Measure[] {
  try {
    return (JSON.parse(readFileSync(places.results, 'utf8')) as { measures: Measure[] }).measures;
  } catch {
    return []; // There are no saved results yet.
  }
}

function machine() {
  const crun = spawnSync('crun', ['--version'], { encoding: 'utf8' }).stdout as string | null;
  return {
    cores: availableParallelism(),
    processor: cpus()[0]?.model ?? 'unknown',
    memory_gb: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    kernel: release(),
    runtime: crun?.split('\n')[0] ?? 'none',
  };
}

function rounded(measure: Measure): Measure {
  return JSON.parse(
    JSON.stringify(measure, (_, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(4)) : value)),
  ) as Measure;
}
