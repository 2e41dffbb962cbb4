// Runs a sample of the crash matrix on one real server: it kills a process in the middle of a step, and freezes one
// writer. `npm run test:crash:matrix` runs the whole matrix.
import { expect, it } from 'vitest';
import { runMatrix, type Cell } from '../support/faults/crash-matrix.ts';
import { printMatrix } from '../support/faults/crash-report.ts';

const cells: readonly Cell[] = [
  { point: 'supervisor.create.inserted', target: 'supervisor', fault: 'kill' },
  { point: 'worker.boot.listening', target: 'worker', fault: 'kill' },
  { point: 'worker.boot.listening', target: 'supervisor', fault: 'kill' },
  { point: 'worker.create.disk-made', target: 'worker', fault: 'kill' },
  { point: 'writer.insert-box.committed', target: 'writer', fault: 'kill' },
  { point: 'worker.start.init-up', target: 'engine', fault: 'kill' },
  { point: 'gateway.exec.answering', target: 'gateway', fault: 'kill' },
  { point: 'worker.output.sending', target: 'writer', fault: 'kill' },
  { point: 'supervisor.succession.leased', target: 'keeper', fault: 'kill' },
  { point: 'worker.stop.halted', target: 'worker', fault: 'kill' },
  { point: 'supervisor.remove.ended', target: 'supervisor', fault: 'kill' },
  { point: 'gateway.run.created', target: 'gateway', fault: 'kill' },
  { point: 'writer.change-execs.committed', target: 'writer', fault: 'freeze' },
];

it('the server keeps its promises when a process is killed in the middle of a step', { timeout: 240_000 }, async () => {
  const results = await runMatrix({ groups: [cells], freezeMs: 3_000, parallel: 1 });
  printMatrix(results);
  // The whole matrix (crash-matrix.test.ts) also accepts 'absent': that process does not exist at that point. The
  // sample has no such cell.
  expect(results.filter(({ outcome }) => outcome !== 'kept')).toEqual([]);
});
