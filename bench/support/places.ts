// Where the benchmarks find what they use: the project, the server under test, and the programs bundled beside this
// one. Set by scripts/bench.mjs.
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
