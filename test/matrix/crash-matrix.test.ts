// Runs the whole crash matrix and prints it: every fault point × every process × SIGKILL and SIGSTOP. It takes long.
// `npm run test:crash:matrix` runs it, and scripts/crash-matrix.mjs has flags for a part of it. The crash tests of
// every run include a part of it.
import { expect, it } from 'vitest';
import {
  cellsOf,
  groupsByPoint,
  matrixPoints,
  runMatrix,
  type Cell,
  type Fault,
} from '../support/faults/crash-matrix.ts';
import { targets } from '../support/faults/crash-arena.ts';
import { printMatrix } from '../support/faults/crash-report.ts';

const wanted = {
  points: new RegExp(process.env['BOXRUN_MATRIX_POINTS'] ?? ''),
  faults: (process.env['BOXRUN_MATRIX_FAULTS'] ?? 'kill,freeze').split(','),
  processes: (process.env['BOXRUN_MATRIX_PROCESSES'] ?? targets.join(',')).split(','),
  parallel: Number(process.env['BOXRUN_MATRIX_PARALLEL'] ?? 2),
  freezeMs: Number(process.env['BOXRUN_MATRIX_FREEZE_MS'] ?? 11_000),
};

it('the server keeps its promises in every cell of the crash matrix', { timeout: 8 * 60 * 60 * 1000 }, async () => {
  const points = matrixPoints.filter((point) => wanted.points.test(point));
  const cells: Cell[] = cellsOf(points, wanted.faults as Fault[]).filter(({ target }) =>
    wanted.processes.includes(target),
  );
  const results = await runMatrix({
    groups: groupsByPoint(cells),
    freezeMs: wanted.freezeMs,
    parallel: wanted.parallel,
    onResult: ({ point, target, fault, outcome, reason, backMs }) => {
      process.stdout.write(
        `${point} × ${target} ${fault}: ${outcome}${backMs === null ? '' : ` (${Math.round(backMs)} ms)`}${reason === '' ? '' : `: ${reason}`}\n`,
      );
    },
  });
  printMatrix(results);
  // A cell may be 'absent' here: that process does not exist at that point. The sample (matrix-sample.test.ts) has no
  // such cell.
  expect(results.filter(({ outcome }) => outcome === 'violated')).toEqual([]);
  expect(results).toHaveLength(cells.length);
});
