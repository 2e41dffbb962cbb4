// Sends at least 5,000 random requests in all, valid and invalid, to the operations of the API description of a real
// server. The seed is random, and is printed: with BOXRUN_TEST_SEED a run can be repeated.
import { expect, it } from 'vitest';
import { runConformance } from '../support/api/conformance-run.ts';
import { startServer } from '../support/servers/server.ts';

it(
  'every random request gets an answer as described, without a server failure, a hang or a box left over',
  { timeout: 400_000 },
  async () => {
    const seed = Number(process.env['BOXRUN_TEST_SEED'] ?? Date.now() % 2 ** 31);
    const server = await startServer({ maxCpu: 200, maxMemoryMb: 200_000 });
    const startedAt = Date.now();
    const { complaints, leaked, ...counts } = await runConformance(server, { count: 5_200, seed });
    console.log(JSON.stringify({ seed, seconds: Math.round((Date.now() - startedAt) / 1000), ...counts }));
    await server.close();
    expect(complaints.slice(0, 20)).toEqual([]);
    expect(leaked).toEqual([]);
    expect(counts.requests).toBeGreaterThanOrEqual(5_000);
  },
);
