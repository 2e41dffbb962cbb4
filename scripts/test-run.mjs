// Runs the test projects in stages, prints the output and the time of each, and ends with the sum: `N passed, N failed`.
// Two steps of a stage run side by side, one for each of two processors. The emulated host of the VM tests, which is slow enough
// alone, takes one of them; beside it stands what waits for nothing and is no test of time. A step that fails does not keep the others from running. With CI set, test files that failed are
// run once more at the end, alone: what passes then does not stop a change, and is named as unsteady, which is a bug to be found.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const directory = mkdtempSync(join(tmpdir(), 'boxrun-test-'));
const report = (name) => join(directory, `${name}.json`);
const vitest = (project) => ({
  name: project,
  command: ['node_modules/.bin/vitest', 'run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${report(project)}`],
  report: report(project),
});
const vm = { name: 'vm', command: ['node', 'test/vm/lab/run.mjs'], report: report('vm'), env: { BOXRUN_LAB_REPORT: report('vm') } };

const lint = { name: 'lint', command: ['node_modules/.bin/eslint', '.', '--max-warnings', '0', '--cache', '--cache-location', 'node_modules/.cache/eslint/'] };

/** Against budgets, of what takes less than three minutes together; alone, so that nothing is measured but the server. */
const bench = { name: 'bench', command: ['node', 'scripts/bench.mjs', '--check', 'exec-throughput', 'exec-latency', 'exec-stream', 'writer', 'replay', 'api-get', 'create', 'create-many'] };

/** Of each stage the longest first. */
const stages = [
  [
    vitest('unit'),
    { name: 'types', command: ['node_modules/typescript-native/bin/tsc', '--noEmit'] },
    { name: 'page types', command: ['node_modules/typescript-native/bin/tsc', '--noEmit', '-p', 'src/ui'] },
    { name: 'browser types', command: ['node_modules/typescript-native/bin/tsc', '--noEmit', '-p', 'test/browser'] },
    vitest('style'),
  ],
  [vitest('contract'), vitest('crash'), vitest('system'), vitest('compat'), vitest('browser'), vitest('chaos'), vitest('security')],
  [bench],
  [vm, lint],
];

/** Its output goes to a file first: that of two steps at once could not be read. */
async function run(step) {
  const startedAt = Date.now();
  const said = join(directory, `${step.name}.txt`);
  const output = openSync(said, 'w');
  const [command, ...args] = step.command;
  const child = spawn(command, args, { stdio: ['ignore', output, output], env: { ...process.env, ...step.env } });
  const good = await new Promise((resolve) => {
    child.once('error', () => resolve(false));
    child.once('exit', (code) => resolve(code === 0));
  });
  closeSync(output);
  process.stdout.write(`\n== ${step.name}\n${readFileSync(said, 'utf8')}`);
  const counts = readCounts(step.report);
  if (step.report === undefined) counts[good ? 'passed' : 'failed'] = 1;
  else if (!good && counts.failed === 0) counts.failed = 1; // It broke before or after its tests.
  else if (good && counts.passed === 0) counts.failed = 1; // No test is no success.
  return { step: step.name, ...counts, seconds: Math.round((Date.now() - startedAt) / 100) / 10 };
}

function readCounts(path) {
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(path, 'utf8'));
    return { passed: numPassedTests, failed: numFailedTests };
  } catch {
    return { passed: 0, failed: 0 };
  }
}

/** Test files with a test that failed, and none for a step that is no vitest run or broke outside of its tests. */
function failedFiles(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).testResults.filter(({ status }) => status === 'failed').map(({ name }) => name);
  } catch {
    return [];
  }
}

/** Runs the files of a step that failed once more. Returns the step's row, put right when they passed. */
async function runAgain(row) {
  const step = stages.flat().find(({ name }) => name === row.step);
  const files = failedFiles(step.report);
  if (files.length === 0) return row;
  const again = await run({ ...step, name: `${step.name}, again`, command: [...step.command, ...files] });
  if (again.failed > 0) return row;
  return { ...row, passed: row.passed + row.failed, failed: 0, unsteady: row.failed, seconds: row.seconds + again.seconds };
}

const only = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
let rows = [];
const startedAt = Date.now();
for (const stage of stages) {
  const waiting = stage.filter(({ name }) => only.length === 0 || only.includes(name));
  const work = async () => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) rows.push(await run(step));
  };
  await Promise.all([work(), work()]);
}
if (process.env.CI === 'true') {
  const settled = [];
  for (const row of rows) settled.push(row.failed > 0 ? await runAgain(row) : row);
  rows = settled;
}
rmSync(directory, { recursive: true, force: true });
console.table(rows);
const sum = (field) => rows.reduce((total, row) => total + (row[field] ?? 0), 0);
if (sum('unsteady') > 0) process.stdout.write(`${sum('unsteady')} of the passed tests failed first: each is a bug to be found\n`);
process.stdout.write(`\n${sum('passed')} passed, ${sum('failed')} failed in ${Math.round((Date.now() - startedAt) / 1000)} s\n`);
process.exitCode = sum('failed') === 0 && rows.length > 0 ? 0 : 1;
