// Runs the crash matrix, or a part of it: `npm run test:crash:matrix -- --points 'supervisor\.create' --faults kill
// --processes worker,engine`. `--parallel N` runs N servers at once. `--freeze-ms N` is the time of a freeze.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const text = { type: 'string' };
const { values } = parseArgs({
  options: { points: text, faults: text, processes: text, parallel: text, 'freeze-ms': text },
});
const chosen = Object.entries(values).map(([name, value]) => [
  `BOXRUN_MATRIX_${name.toUpperCase().replaceAll('-', '_')}`,
  value,
]);
const { status } = spawnSync(
  'node_modules/.bin/vitest',
  ['run', '--project', 'matrix', '--disable-console-intercept'],
  {
    stdio: 'inherit',
    env: { ...process.env, ...Object.fromEntries(chosen) },
  },
);
process.exitCode = status ?? 1;
