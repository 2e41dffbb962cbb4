// One project per kind of promise; `npm test` runs them in order, `vitest run --project NAME` runs one.
import { defineConfig } from 'vitest/config';

const project = (name: string, options: { testTimeoutMs: number; parallel: boolean; isolate?: boolean }) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    pool: 'forks' as const,
    testTimeout: options.testTimeoutMs,
    hookTimeout: options.testTimeoutMs,
    fileParallelism: options.parallel,
    maxWorkers: options.parallel ? 2 : 1,
    isolate: options.isolate ?? true,
  },
});

export default defineConfig({
  test: {
    projects: [
      // Their files share a process: loading the same modules for each took more than half of the time.
      project('unit', { testTimeoutMs: 10_000, parallel: true, isolate: false }),
      project('style', { testTimeoutMs: 60_000, parallel: true }),
      // What talks to real engines and processes runs one file at a time: two cores are few.
      project('contract', { testTimeoutMs: 60_000, parallel: false }),
      // What unmodified clients, the documentation and the examples rely on.
      project('compat', { testTimeoutMs: 120_000, parallel: false }),
      // The dashboard in a real browser.
      project('browser', { testTimeoutMs: 60_000, parallel: false }),
      project('conformance', { testTimeoutMs: 400_000, parallel: false }),
      project('system', { testTimeoutMs: 120_000, parallel: false }),
      // Attacks, each refused: `npm run test:security` ends with a table of them.
      project('security', { testTimeoutMs: 60_000, parallel: false }),
      project('crash', { testTimeoutMs: 120_000, parallel: false }),
      // By `npm run test:load`: what is loud, slow or stuck, and what others notice of it. A few minutes, most of them of one gigabyte.
      project('load', { testTimeoutMs: 120_000, parallel: false }),
      // One minute of it; by `npm run test:chaos` more.
      project('chaos', { testTimeoutMs: 120_000, parallel: false }),
      // A thousand boxes: many minutes.
      project('soak', { testTimeoutMs: 120_000, parallel: false }),
      // Every fault at every moment: hours.
      project('matrix', { testTimeoutMs: 120_000, parallel: false }),
      // Packs, installs and uninstalls, which compiles native modules anew.
      project('package', { testTimeoutMs: 120_000, parallel: false }),
      project('vm', { testTimeoutMs: 240_000, parallel: false }),
      // Faults and attacks on real micro-VMs: minutes more than a change should wait for.
      project('vm-long', { testTimeoutMs: 240_000, parallel: false }),
    ],
  },
});
