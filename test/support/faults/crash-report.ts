// Prints the crash matrix: a line for each point, a column for each process and fault, and the counts.
// Violated and absent cells follow with their reason.
import { targets } from './crash-arena.ts';
import type { CellResult, Fault } from './crash-matrix.ts';

const marks = { kept: 'kept', violated: 'BROKEN', absent: '-' } as const;
const faults: readonly Fault[] = ['kill', 'freeze'];
const backMsMax = 2_000;

export function printMatrix(results: readonly CellResult[]): void {
  const columns = faults
    .flatMap((fault) => targets.map((target) => ({ fault, target })))
    .filter(({ fault, target }) => results.some((result) => result.fault === fault && result.target === target));
  const width = Math.max(...results.map(({ point }) => point.length));
  const rows = [...new Set(results.map(({ point }) => point))]
    .sort()
    .map((point) => ({ point, cells: results.filter((cell) => cell.point === point) }));
  const lines = [
    [''.padEnd(width), ...columns.map(({ fault, target }) => `${target} ${fault}`.padEnd(17))].join(' '),
    ...rows.map(({ point, cells }) =>
      [
        point.padEnd(width),
        ...columns.map(({ fault, target }) => {
          const cell = cells.find((result) => result.fault === fault && result.target === target);
          return (cell === undefined ? '' : marks[cell.outcome]).padEnd(17);
        }),
      ].join(' '),
    ),
    ...results
      .filter(({ outcome }) => outcome !== 'kept')
      .map(({ point, target, fault, outcome, reason }) => `${marks[outcome]} ${point} × ${target} ${fault}: ${reason}`),
    summary(results),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

function summary(results: readonly CellResult[]): string {
  const count = (outcome: CellResult['outcome']) => results.filter((result) => result.outcome === outcome).length;
  const times = results
    .filter(({ fault, backMs }) => fault === 'kill' && backMs !== null)
    .map(({ backMs }) => backMs ?? 0)
    .sort((one, other) => one - other);
  const at = (part: number) => Math.round(times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0);
  const late = times.filter((ms) => ms > backMsMax).length;
  return (
    `${results.length} cells: ${count('kept')} kept, ${count('violated')} broken, ${count('absent')} without such a process; ` +
    `back after a kill within ${at(0.5)} ms (half), ${at(0.95)} ms (95 %), ${at(1)} ms (all), ${late} later than ${backMsMax} ms`
  );
}
