// One project per kind of promise. `npm test` runs them as scripts/test-plan.mjs says, `vitest run --project NAME` runs
// one.
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/support/runs/longest-first.ts';

/**
 * Files that start servers and engines: one at a time, because two processors are few, unless `npm test` asks for more.
 */
const serverFilesAtOnce = Number(process.env['BOXRUN_TEST_FILES_AT_ONCE'] ?? 1);

/** For test/support/servers/prepared-state.ts: the files that all servers of a run start with. */
const preparedState = join(tmpdir(), `boxrun-prepared-${process.pid}`);
process.env['BOXRUN_TEST_STATE'] = preparedState;
process.once('exit', () => {
  rmSync(preparedState, { recursive: true, force: true });
});

/** `npm run test:long` runs the files `*.long.test.ts`, and nothing else runs them. */
const isLongRun = process.env['BOXRUN_TEST_LONG'] !== undefined;

const project = (name: string, options: { testTimeoutMs: number; parallel: number; isolate?: boolean }) => ({
  test: {
    name,
    include: [`test/${name}/**/*${isLongRun ? '.long' : ''}.test.ts`],
    exclude: isLongRun ? [] : ['**/*.long.test.ts'],
    pool: 'forks' as const,
    testTimeout: options.testTimeoutMs,
    hookTimeout: options.testTimeoutMs,
    fileParallelism: options.parallel > 1,
    maxWorkers: options.parallel,
    isolate: options.isolate ?? true,
  },
});

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      // Their files share a process: loading the same modules for each took more than half of the time.
      project('unit', { testTimeoutMs: 10_000, parallel: 2, isolate: false }),
      project('style', { testTimeoutMs: 60_000, parallel: 2 }),
      project('contract', { testTimeoutMs: 60_000, parallel: serverFilesAtOnce, isolate: false }),
      // What unmodified clients, the documentation and the examples rely on.
      project('compat', { testTimeoutMs: 120_000, parallel: serverFilesAtOnce, isolate: false }),
      // The dashboard in a real browser.
      project('browser', { testTimeoutMs: 60_000, parallel: serverFilesAtOnce, isolate: false }),
      project('conformance', { testTimeoutMs: 400_000, parallel: 1 }),
      project('system', { testTimeoutMs: 120_000, parallel: serverFilesAtOnce, isolate: false }),
      // Attacks, each refused: `npm run test:security` ends with a table of them.
      project('security', { testTimeoutMs: 60_000, parallel: serverFilesAtOnce, isolate: false }),
      project('crash', { testTimeoutMs: 120_000, parallel: serverFilesAtOnce, isolate: false }),
      // By `npm run test:load`: what is loud, slow or stuck, and what others notice of it. A few minutes, most of them
      // of one gigabyte.
      project('load', { testTimeoutMs: 120_000, parallel: 1 }),
      // A quarter of a minute; by `npm run test:chaos` more.
      project('chaos', { testTimeoutMs: 120_000, parallel: serverFilesAtOnce, isolate: false }),
      // A thousand boxes: many minutes.
      project('soak', { testTimeoutMs: 120_000, parallel: 1 }),
      // Stops during uploads, hundreds of them on a busy machine: ten minutes.
      project('stop-uploads', { testTimeoutMs: 120_000, parallel: 1 }),
      // Every fault at every moment: hours.
      project('matrix', { testTimeoutMs: 120_000, parallel: 1 }),
      // By `npm run test:silence`: how long each command is silent, on three hosts. It takes minutes.
      project('silence', { testTimeoutMs: 120_000, parallel: 1 }),
      // Packs, installs and uninstalls, which compiles native modules anew.
      project('package', { testTimeoutMs: 120_000, parallel: 1 }),
      project('vm', { testTimeoutMs: 240_000, parallel: 1 }),
      // Faults and attacks on real micro-VMs: minutes more than a change should wait for.
      project('vm-long', { testTimeoutMs: 240_000, parallel: 1 }),
    ],
  },
});
