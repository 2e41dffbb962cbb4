// The paths that the benchmarks use: the project, the server under test, and the bundled programs beside this one.
// scripts/bench.mjs sets the root.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = process.env['BENCH_ROOT'] ?? process.cwd();

export const places = {
  root,
  dist: join(root, 'dist'),
  results: join(root, 'bench/results.json'),
  budgets: join(root, 'bench/budgets.json'),
  profiles: join(root, 'node_modules/.cache/boxrun-bench/profiles'),
  profiler: join(root, 'bench/support/profiler.mjs'),
  bareServer: fileURLToPath(new URL('./bare-server.mjs', import.meta.url)),
  python: join(root, 'node_modules/.cache/boxrun-compat/venv/bin/python'),
};
