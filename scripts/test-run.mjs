// Runs the rows of test-plan.mjs at the same time, and the steps of one row one after the other. Prints the output and
// the time of each step, and the sum at the end: `N passed, N failed`. The other steps run even if one fails. With
// CI=true, failed test files run once more at the end, one at a time. If such a file passes then, the run passes. But
// the last line names the file, because an unsteady test is a bug.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, sep } from 'node:path';
import { planOf } from './test-plan.mjs';

const directory = mkdtempSync(join(tmpdir(), 'boxrun-test-'));
const startedAt = Date.now();
const secondsSince = (from) => Math.round((Date.now() - from) / 100) / 10;

/** Measures the seconds for fixed work (20 starts of Node), to compare machines, or one machine at two times. */
function referenceSeconds() {
  const from = Date.now();
  for (let round = 0; round < 20; round += 1) spawnSync(process.execPath, ['-e', '0']);
  return secondsSince(from);
}

/**
 * Runs one step to its end. Its output goes to a file first, because the mixed output of several steps is unreadable.
 * @returns {Promise<{rows: object[], failedFiles: string[]}>} a row of the summary for each project, or for the step
 */
async function run(step) {
  const from = Date.now();
  const id = step.name.replaceAll(' ', '-');
  const said = join(directory, `${id}.txt`);
  const report = join(directory, `${id}.json`);
  const output = openSync(said, 'w');
  const [program, ...args] = step.command;
  const isVitest = program.endsWith('vitest');
  const reporting = isVitest ? ['--reporter=json', `--outputFile.json=${report}`] : [];
  const child = spawn(program, [...args, ...reporting, ...(step.files ?? [])], {
    stdio: ['ignore', output, output],
    // A step in the VM lab writes its report inside the emulated host. test/vm/lab/run.mjs copies it to this path.
    env: { ...process.env, ...step.env, BOXRUN_LAB_REPORT: report },
  });
  const isGood = await new Promise((resolve) => {
    child.once('error', () => resolve(false));
    child.once('exit', (code) => resolve(code === 0));
  });
  closeSync(output);
  process.stdout.write(`\n== ${step.name}: ${secondsSince(from)} s\n${readFileSync(said, 'utf8')}`);
  return summaryOf(step, report, isGood, secondsSince(from));
}

function summaryOf(step, report, isGood, seconds) {
  if (step.projects === undefined)
    return { rows: [{ name: step.name, passed: isGood ? 1 : 0, failed: isGood ? 0 : 1, seconds }], failedFiles: [] };
  const results = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')).testResults : [];
  const files = results.map(({ name, status, startTime, endTime, assertionResults }) => {
    const path = projectPath(name);
    const count = (wanted) => assertionResults.filter((test) => test.status === wanted).length;
    return {
      path,
      project: path.split('/')[1],
      isFailed: status === 'failed',
      ms: endTime - startTime,
      passed: count('passed'),
      failed: count('failed'),
    };
  });
  const rows = step.projects.map((name) => {
    const own = files.filter(({ project }) => project === name);
    const sum = (field) => own.reduce((total, file) => total + file[field], 0);
    const row = { name, passed: sum('passed'), failed: sum('failed'), seconds: Math.round(sum('ms') / 100) / 10 };
    // A file can fail outside its tests, and then no test has failed. A project without any passed test also counts as
    // failed.
    if (row.failed === 0 && (row.passed === 0 || own.some(({ isFailed }) => isFailed))) row.failed = 1;
    return row;
  });
  if (!isGood && rows.every(({ failed }) => failed === 0)) rows[0].failed = 1;
  return { rows, failedFiles: files.filter(({ isFailed }) => isFailed).map(({ path }) => path) };
}

/** Returns the path of a test file relative to the project. In the VM lab (test/vm/lab) the project is at /project. */
function projectPath(file) {
  return file.startsWith(process.cwd() + sep) ? relative(process.cwd(), file) : file.replace(/^\/project\//, '');
}

const only = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const plan = planOf(only);
const referenceBefore = referenceSeconds();
const ended = [];
const inTurn = async (steps) => {
  for (const step of steps) ended.push({ step, ...(await run(step)) });
};
await Promise.all(plan.map(inTurn));

const unsteady = [];
if (process.env.CI === 'true') {
  for (const { step, rows, failedFiles } of ended.filter(({ failedFiles }) => failedFiles.length > 0)) {
    const again = await run({
      ...step,
      name: `${step.name} again`,
      files: failedFiles,
      env: { ...step.env, BOXRUN_TEST_FILES_AT_ONCE: '1' },
    });
    for (const row of rows.filter(({ failed }) => failed > 0)) {
      if (again.failedFiles.some((path) => path.split('/')[1] === row.name)) continue;
      Object.assign(row, { passed: row.passed + row.failed, failed: 0 });
      unsteady.push(...failedFiles.filter((path) => path.split('/')[1] === row.name));
    }
  }
}
const referenceAfter = referenceSeconds();
rmSync(directory, { recursive: true, force: true });

const rows = ended.flatMap((each) => each.rows);
const sum = (field) => rows.reduce((total, row) => total + row[field], 0);
console.table(rows);
console.log(
  `Reference work (20 × node -e 0): ${referenceBefore} s before, ${referenceAfter} s after. Tests: ${secondsSince(startedAt)} s.`,
);
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`);
console.log(
  unsteady.length === 0
    ? 'No test file needed a second run.'
    : `Unsteady, passed on the second run only: ${unsteady.join(', ')}`,
);
process.exitCode = sum('failed') === 0 && rows.length > 0 ? 0 : 1;
