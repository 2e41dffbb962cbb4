// Bundles TypeScript fixtures that must run as separate processes, because Node 20 cannot run TypeScript. The bundle is
// below node_modules, so that Node finds the packages.
import { build } from 'esbuild';
import { mkdirSync, renameSync } from 'node:fs';
import { basename, join } from 'node:path';

const cacheDir = join(import.meta.dirname, '../../../node_modules/.cache/boxrun-test');

/** Bundles `entry` and returns the path of the bundle. */
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
