// Tests docs/api.md against a real server: every example works, in the order of the page, and every operation is
// mentioned.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { operations } from '../../src/gateway/routes/all-operations.ts';
import { startServer } from '../support/servers/server.ts';

const path = join(import.meta.dirname, '../../docs/api.md');

it('every example in docs/api.md succeeds', { timeout: 120_000 }, async () => {
  const examples = [...(await readFile(path, 'utf8')).matchAll(/```sh\n([\s\S]*?)```/g)].map(
    ([, script]) => script ?? '',
  );
  expect(examples.length).toBeGreaterThan(12);
  const server = await startServer();
  try {
    for (const script of examples) {
      const env = { ...process.env, BOXRUN: `http://127.0.0.1:${server.port}` };
      const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', script], {
        env,
        timeout: 60_000,
      });
      expect(stdout.length, script).toBeGreaterThan(0);
    }
  } finally {
    await server.close();
  }
});

it('docs/api.md names the path of every operation of the API', async () => {
  const text = await readFile(path, 'utf8');
  for (const { path: described } of Object.values(operations)) {
    const [resource = ''] = described.split(/:\w+$/);
    expect(text, described).toContain(resource);
  }
});
