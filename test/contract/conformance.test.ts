// Sends made-up requests to a real server, and checks that every answer fits the API description. The seed is fixed, so
// every run sends the same requests.
import { expect, it } from 'vitest';
import { runConformance } from '../support/api/conformance-run.ts';
import { startServer } from '../support/servers/server.ts';

it('every answer to a made-up request fits the API description', { timeout: 180_000 }, async () => {
  const server = await startServer({ maxCpu: 200, maxMemoryMb: 200_000 });
  const { complaints, leaked, operations } = await runConformance(server, { count: 600, seed: 20_261_123 });
  await server.close();
  expect(complaints.slice(0, 20)).toEqual([]);
  expect(leaked).toEqual([]);
  expect(operations).toBeGreaterThan(20);
});
