// Builds the bundles of the command line, its help texts and its man pages into a directory. scripts/build.mjs does it
// for the whole package, scripts/client-package.mjs for the package that has only the client.
import { build } from 'esbuild';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Most commands do not need these parts of the command line, so they are separate bundles. */
const separateBundles = { heavy: './cli-heavy.cjs', parser: './cli-parser.cjs', ws: './cli-ws.cjs' };
const loadSeparateBundles = {
  name: 'separate-bundles',
  setup: ({ onResolve }) =>
    onResolve({ filter: /\/(heavy|parser)\.ts$|^ws$/ }, ({ kind, path }) =>
      kind === 'dynamic-import' ? { path: separateBundles[basename(path, '.ts')], external: true } : undefined,
    ),
};

/**
 * Builds a main bundle. Node has no stable `import()` in code run with V8's cached code, so each one is replaced by
 * `importModule` (compiled-code.ts).
 */
export async function buildKeptMain(onCommonJs, name, source, options = {}) {
  await build({ ...onCommonJs, ...options, entryPoints: { [name]: source } });
  const path = join(onCommonJs.outdir, `${name}.cjs`);
  await writeFile(path, (await readFile(path, 'utf8')).replaceAll(/\bimport\((?="[^"]+"\))/g, 'importModule('));
}

/** Builds everything of the command line except cli-heavy. The options are those of esbuild, for both formats. */
export async function buildCommandLine(onCommonJs, onNode) {
  await Promise.all([
    build({ ...onCommonJs, entryPoints: { cli: 'src/cli/entry.ts' } }),
    buildKeptMain(onCommonJs, 'cli-main', 'src/cli/main.ts', {
      minifyWhitespace: true,
      minifySyntax: true,
      plugins: [loadSeparateBundles],
    }),
    buildKeptMain(onCommonJs, 'cli-parser', 'src/cli/parsing/parser.ts', {
      define: { ...onCommonJs.define, 'Intl.Segmenter': 'LazySegmenter' },
      inject: ['src/cli/parsing/lazy-segmenter.ts'],
    }),
    build({ ...onCommonJs, minifyWhitespace: true, entryPoints: { 'cli-ws': 'ws' } }),
    writeHelp(onNode),
  ]);
}

/** Writes the help of each command as text, so that `--help` does not load the parser. Writes the man pages too. */
async function writeHelp(onNode) {
  const path = resolve('dist', `all-help-${process.pid}.mjs`); // In dist/, so that Node finds the packages outside.
  try {
    await build({
      ...onNode,
      outdir: undefined,
      outfile: path,
      sourcemap: false,
      entryPoints: ['src/cli/all-help.ts'],
    });
    const { allHelp, allManPages, helpWidths } = await import(pathToFileURL(path).href);
    for (const width of helpWidths)
      await writeFile(join(onNode.outdir, `help-${width}.json`), JSON.stringify(await allHelp(width)));
    await mkdir(join(onNode.outdir, 'man'));
    for (const [name, text] of Object.entries(await allManPages()))
      await writeFile(join(onNode.outdir, 'man', name), text);
  } finally {
    await rm(path);
  }
}
