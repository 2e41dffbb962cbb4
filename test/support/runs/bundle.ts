// TypeScript fixtures that must run as processes of their own: bundled to a file that Node 20 can run, below
// node_modules so that packages are found.
import { build } from 'esbuild';
import { mkdirSync, renameSync } from 'node:fs';
import { basename, join } from 'node:path';

const cacheDir = join(import.meta.dirname, '../../../node_modules/.cache/boxrun-test');

/** Path of a runnable bundle of `entry`, made anew. */
export async function bundleFixture(entry: string): Promise<string> {
  mkdirSync(cacheDir, { recursive: true });
  const outfile = join(cacheDir, `${basename(entry, '.ts')}.mjs`);
  const making = `${outfile}.${process.pid}`;
  await build({
    entryPoints: [entry],
    outfile: making,
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'error',
  });
  renameSync(making, outfile);
  return outfile;
}
