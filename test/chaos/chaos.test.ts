// Chaos: clients that do random things while random processes are killed and frozen; nothing acknowledged may be lost,
// nothing left. Of each run the seed is printed: `npm run test:chaos -- --seed N` plays it again, `--minutes M` for
// longer.
import { expect, it } from 'vitest';
import { runChaos, summaryOf } from '../support/faults/chaos.ts';

const minutes = Number(process.env['BOXRUN_CHAOS_MINUTES'] ?? 1);
const seed = Number(process.env['BOXRUN_CHAOS_SEED'] ?? 1);

it(`violates nothing with seed ${seed}`, { timeout: minutes * 60_000 + 300_000 }, async () => {
  process.stdout.write(`chaos: seed ${seed}\n`);
  const report = await runChaos({ seed, durationMs: minutes * 60_000 });
  process.stdout.write(`chaos: ${summaryOf(report)}`);
  expect(report.violations).toEqual([]);
  expect(report.rounds).toBeGreaterThan(0);
});
