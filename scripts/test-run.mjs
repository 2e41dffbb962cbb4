// Runs the test projects one after the other, prints the time of each, and ends with the sum: `N passed, N failed`.
// A step that fails does not keep the later ones from running; the exit code says that one did.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const reports = mkdtempSync(join(tmpdir(), 'boxrun-test-'));
const report = (name) => join(reports, `${name}.json`);
const vitest = (project) => ({
  name: project,
  command: ['node_modules/.bin/vitest', 'run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${report(project)}`],
  report: report(project),
});

const steps = [
  { name: 'types', command: ['node_modules/.bin/tsc', '--noEmit'] },
  { name: 'lint', command: ['node_modules/.bin/eslint', '.', '--max-warnings', '0'] },
  vitest('style'),
  vitest('unit'),
  vitest('contract'),
  vitest('compat'),
  vitest('system'),
  vitest('crash'),
  {
    name: 'vm',
    command: ['node', 'test/vm/lab/run.mjs'],
    report: report('vm'),
    env: { BOXRUN_LAB_REPORT: report('vm') },
  },
];

const only = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const rows = [];
let passed = 0;
let failed = 0;
for (const step of steps) {
  if (only.length > 0 && !only.includes(step.name)) continue;
  process.stdout.write(`\n== ${step.name}\n`);
  const startedAt = Date.now();
  const [command, ...args] = step.command;
  const result = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...step.env } });
  const counts = readCounts(step.report);
  if (step.report === undefined) counts[result.status === 0 ? 'passed' : 'failed'] = 1;
  else if (result.status !== 0 && counts.failed === 0) counts.failed = 1; // It broke before or after its tests.
  else if (result.status === 0 && counts.passed === 0) counts.failed = 1; // No test is no success.
  passed += counts.passed;
  failed += counts.failed;
  rows.push({ step: step.name, passed: counts.passed, failed: counts.failed, seconds: Math.round((Date.now() - startedAt) / 100) / 10 });
}
rmSync(reports, { recursive: true, force: true });
console.table(rows);
process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 && rows.length > 0 ? 0 : 1;

function readCounts(path) {
  if (path === undefined) return { passed: 0, failed: 0 };
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(path, 'utf8'));
    return { passed: numPassedTests, failed: numFailedTests };
  } catch {
    return { passed: 0, failed: 0 };
  }
}
