// Runs the chaos test for a given time: `npm run test:chaos -- --minutes 10 --seed N`. Without --seed it chooses a new
// seed and prints it. At the end it prints the counts of operations, faults and violated invariants.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string' } } });
const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 31));
const { status } = spawnSync(
  'node_modules/.bin/vitest',
  ['run', '--project', 'chaos', '--disableConsoleIntercept=true'],
  {
    stdio: 'inherit',
    env: { ...process.env, BOXRUN_CHAOS_MINUTES: values.minutes, BOXRUN_CHAOS_SEED: seed },
  },
);
process.exitCode = status ?? 1;
