// Runs the checks that a change must pass before it is sent: types, lint, format, style and unit tests, two at a time,
// in under a minute. Prints the time of each step and the output of failed steps. Ends with 1 if a step has failed.
import { spawn } from 'node:child_process';

/** The steps, the longest first. */
const steps = [
  {
    name: 'format',
    command: [
      'prettier',
      '--check',
      '.',
      '--log-level',
      'warn',
      '--cache',
      '--cache-location',
      'node_modules/.cache/prettier/files',
    ],
  },
  { name: 'lint', command: ['oxlint'] },
  { name: 'unit', command: ['vitest', 'run', '--project', 'unit', '--silent=passed-only'] },
  { name: 'types', command: ['../typescript-native/bin/tsc', '--noEmit'] },
  { name: 'page types', command: ['../typescript-native/bin/tsc', '--noEmit', '-p', 'src/ui'] },
  { name: 'style', command: ['vitest', 'run', '--project', 'style', '--silent=passed-only'] },
];

/** Runs one step to its end. Prints its output only if it fails. */
function run({ name, command: [program, ...args] }) {
  const from = performance.now();
  return new Promise((resolve) => {
    const child = spawn(`node_modules/.bin/${program}`, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1' },
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (piece) => {
        output += piece;
      });
    }
    const end = (good, detail) => {
      const seconds = ((performance.now() - from) / 1000).toFixed(1);
      console.log(`${good ? 'ok    ' : 'FAILED'}  ${name.padEnd(10)} ${seconds.padStart(5)} s`);
      if (!good) console.log(detail);
      resolve(good);
    };
    child.once('error', (error) => end(false, `cannot run ${program}: ${error.message}; has \`npm ci\` been run?`));
    child.once('close', (code) => end(code === 0, output));
  });
}

const from = performance.now();
const waiting = [...steps];
const results = [];
async function work() {
  for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) results.push(await run(step));
}
await Promise.all([work(), work()]);
const failed = results.filter((good) => !good).length;
console.log(
  `${failed === 0 ? 'all good' : `${failed} of ${steps.length} failed`} in ${((performance.now() - from) / 1000).toFixed(1)} s`,
);
process.exitCode = failed === 0 ? 0 : 1;
