// Runs the benchmarks: `npm run bench -- [NAME…] [--short] [--profile] [--check]`. The server under test is that in
// dist/. Node 20 cannot run TypeScript, so bench/ is bundled first. The bundle is below node_modules, so that Node
// finds the packages.
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const outdir = join(root, 'node_modules/.cache/boxrun-bench');

if (!existsSync(join(root, 'dist/cli.cjs'))) {
  console.error('bench: there is no dist/; run `npm run build` first');
  process.exit(1);
}
await build({
  absWorkingDir: root,
  entryPoints: { main: 'bench/main.ts', 'bare-server': 'bench/references/bare-server.ts' },
  outdir,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  packages: 'external',
  sourcemap: 'inline',
  logLevel: 'error',
});
const env = { ...process.env, BENCH_ROOT: root };
const { status } = spawnSync(process.execPath, ['--expose-gc', join(outdir, 'main.mjs'), ...process.argv.slice(2)], {
  stdio: 'inherit',
  env,
});
process.exitCode = status ?? 1;
