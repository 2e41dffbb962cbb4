// The short form of test/conformance, with a seed of its own, so that every run of the tests asks the same.
import { expect, it } from 'vitest';
import { runConformance } from '../support/api/conformance-run.ts';
import { startServer } from '../support/servers/server.ts';

it('made-up requests are met with answers as described', { timeout: 180_000 }, async () => {
  const server = await startServer({ maxCpu: 200, maxMemoryMb: 200_000 });
  const { complaints, leaked, operations } = await runConformance(server, { count: 600, seed: 20_261_123 });
  await server.close();
  expect(complaints.slice(0, 20)).toEqual([]);
  expect(leaked).toEqual([]);
  expect(operations).toBeGreaterThan(20);
});
