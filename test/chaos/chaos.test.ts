// Tests a real server under chaos: clients do random things while random processes are killed and frozen. No
// acknowledged change may be lost, and nothing may be left over. Each run prints its seed.
// `npm run test:chaos -- --seed N` repeats it, and `--minutes M` makes it longer.
import { expect, it } from 'vitest';
import { runChaos, summaryOf } from '../support/faults/chaos.ts';

const minutes = Number(process.env['BOXRUN_CHAOS_MINUTES'] ?? 0.25);
const seed = Number(process.env['BOXRUN_CHAOS_SEED'] ?? 1);

it(
  `the server keeps all its promises under chaos with seed ${seed}`,
  { timeout: minutes * 60_000 + 300_000 },
  async () => {
    process.stdout.write(`chaos: seed ${seed}\n`);
    const report = await runChaos({ seed, durationMs: minutes * 60_000 });
    process.stdout.write(`chaos: ${summaryOf(report)}`);
    expect(report.violations).toEqual([]);
    expect(report.rounds).toBeGreaterThan(0);
  },
);
