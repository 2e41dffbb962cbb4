// TypeScript fixtures that must run as processes of their own: bundled to a file that Node 20 can run, below node_modules so that packages are found.
import { build } from 'esbuild';
import { mkdtemp } from 'node:fs/promises';
import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';

const cacheDir = join(import.meta.dirname, '../../node_modules/.cache/boxrun-test');

/** Path of a runnable bundle of `entry`. */
export async function bundleFixture(entry: string): Promise<string> {
  mkdirSync(cacheDir, { recursive: true });
  const outfile = join(await mkdtemp(join(cacheDir, 'fixture-')), `${basename(entry, '.ts')}.mjs`);
  await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'esm', packages: 'external', logLevel: 'error' });
  return outfile;
}
