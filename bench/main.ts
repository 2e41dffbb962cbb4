// `npm run bench`: runs the named suites one after the other, prints a table and writes results.json. With --check it
// compares the ratios with budgets.json and does not write results.json.
import { rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { belowBudget, readBudgets } from './support/budgets.ts';
import type { Context, Measure, Suite } from './support/measure.ts';
import { places } from './support/places.ts';
import { profileReport } from './support/profiles.ts';
import { renderTable, saveResults } from './support/report.ts';
import { suites } from './suites.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    short: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
  },
});

const asked = suitesToRun(positionals);
const measures = values.check ? await check(asked) : await runAll(asked);
console.log(renderTable(measures));
if (!values.check) saveResults(measures, positionals.length === 0 && process.exitCode === undefined);

function suitesToRun(names: readonly string[]): Suite[] {
  if (names.length === 0) return suites.filter(({ onlyByName = false }) => !onlyByName);
  return names.map((name) => {
    const suite = suites.find((each) => each.name === name);
    if (suite !== undefined) return suite;
    console.error(`bench: there is no '${name}'; there are ${suites.map((each) => each.name).join(', ')}`);
    return process.exit(2);
  });
}

async function runAll(chosen: readonly Suite[]): Promise<Measure[]> {
  const all: Measure[] = [];
  for (const suite of chosen) {
    try {
      all.push(...(await runSuite(suite)));
    } catch (error) {
      // The other suites still run, and their results are not lost.
      console.error(`${suite.name}: failed:`, error);
      process.exitCode = 1;
    }
  }
  return all;
}

async function runSuite(suite: Suite): Promise<Measure[]> {
  const startedAt = performance.now();
  const profileDir = values.profile ? `${places.profiles}/${suite.name}` : null;
  if (profileDir !== null) rmSync(profileDir, { recursive: true, force: true });
  const context: Context = {
    isShort: values.short || values.check,
    profileDir,
    say: (text) => {
      console.error(`${suite.name}: ${text}`);
    },
  };
  const measured = await suite.run(context);
  context.say(`done in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  if (profileDir !== null) console.log(profileReport(profileDir));
  return measured;
}

/** Runs the suites and checks the budgets. A figure below its budget fails only if a second run is below it, too. */
async function check(chosen: readonly Suite[]): Promise<Measure[]> {
  const budgets = readBudgets();
  const all: Measure[] = [];
  for (const suite of chosen) {
    const first = await runSuite(suite);
    const suspects = belowBudget(first, budgets);
    for (const { text } of suspects) console.error(`${suite.name}: ${text}; measured once more`);
    const final = suspects.length === 0 ? first : await runSuite(suite);
    for (const { name, text } of belowBudget(final, budgets)) {
      if (!suspects.some((suspect) => suspect.name === name)) continue;
      console.error(`${suite.name}: FAILED: ${text}`);
      process.exitCode = 1;
    }
    all.push(...final);
  }
  return all;
}
