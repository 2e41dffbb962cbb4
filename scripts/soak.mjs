// Runs the soak test: `npm run test:soak`, or shorter: `npm run test:soak -- --boxes 100 --execs 2000`. At the end it
// prints what the server held after a fifth of the boxes and at the end.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { boxes: { type: 'string', default: '1000' }, execs: { type: 'string', default: '20000' } },
});
const { status } = spawnSync(
  'node_modules/.bin/vitest',
  ['run', '--project', 'soak', '--disableConsoleIntercept=true'],
  {
    stdio: 'inherit',
    env: { ...process.env, BOXRUN_SOAK_BOXES: values.boxes, BOXRUN_SOAK_EXECS: values.execs },
  },
);
process.exitCode = status ?? 1;
