// Creates, uses and removes a thousand boxes on one real server. It prints what the server holds at the 200th box and
// at the end. No count may have grown. Memory may vary by a bound for noise (soak.ts).
// `npm run test:soak -- --boxes 100 --execs 2000` is a short form.
import { expect, it } from 'vitest';
import { runSoak, soakTable } from '../support/load/soak.ts';

const boxes = Number(process.env['BOXRUN_SOAK_BOXES'] ?? 1_000);
const execs = Number(process.env['BOXRUN_SOAK_EXECS'] ?? 20_000);

it(
  `the server holds no more after ${boxes} boxes than after ${Math.ceil(boxes / 5)}`,
  { timeout: 2 * 60 * 60 * 1000 },
  async () => {
    const report = await runSoak({ boxes, execs, onProgress: (line) => process.stdout.write(`soak: ${line}\n`) });
    process.stdout.write(soakTable(report));
    expect(report.grown).toEqual([]);
  },
);
