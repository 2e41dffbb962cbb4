// Builds dist/: one self-contained bundle per process, so that files replaced under a running server do not reach it.
// Only packages with native parts or files of their own stay outside. Beside them, the SDK for browsers, the SDK's
// types, the dashboard in dist/ui, and the runner.
import { build } from 'esbuild';
import { build as buildPage } from 'vite';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { buildRunner } from './build-runner.mjs';

const external = ['better-sqlite3', '@boxlite-ai/boxlite', 'piscina', 'pino-pretty'];

// The npm name that `boxrun upgrade` installs. Leave it unset until that name belongs to this project.
const publishedName = process.env.BOXRUN_PUBLISHED_NAME ?? '';

/**
 * By it a process tells whether another one is of the same build (src/shared/process/build.ts): equal for equal
 * sources.
 */
async function buildId() {
  const sources = (await readdir('src', { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const digest = createHash('sha256');
  const paths = sources.map(({ parentPath, name }) => join(parentPath, name)).sort();
  for (const path of [...paths, 'scripts/build.mjs', 'package-lock.json']) {
    digest.update(path).update(await readFile(path));
  }
  return digest.update(publishedName).digest('hex').slice(0, 16);
}

await rm('dist', { recursive: true, force: true });
await mkdir('dist');
const types = promisify(execFile)(process.execPath, ['scripts/sdk-types.mjs']);
const onNode = {
  outdir: 'dist',
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  sourcemap: true,
  external,
  logLevel: 'warning',
  define: { boxrunBuild: JSON.stringify(await buildId()) },
  // Bundled CommonJS packages ask for Node's own modules through `require`.
  banner: {
    js: "import { createRequire as boxrunCreateRequire } from 'node:module'; const require = boxrunCreateRequire(import.meta.url);",
  },
};
const onCommonJs = {
  ...onNode,
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  define: {
    ...onNode.define,
    'import.meta.url': 'boxrunImportMetaUrl',
    boxrunPublishedName: JSON.stringify(publishedName),
  },
  banner: { js: "'use strict'; const boxrunImportMetaUrl = require('node:url').pathToFileURL(__filename).href;" },
};
// Each process and the command line has a small entry, and a main bundle in CommonJS. V8's compiled code can be kept of
// such a bundle alone (src/shared/process/compiled-code.ts). A running server of an earlier version starts its
// processes by the names of these entries: they stay.
const entries = [
  build({
    ...onNode,
    entryPoints: {
      supervisor: 'src/supervisor/entry.ts',
      gateway: 'src/gateway/entry.ts',
      writer: 'src/writer/entry.ts',
      'gateway-reader': 'src/gateway/reads/reader-thread.ts',
      sdk: 'src/sdk/index.ts',
    },
  }),
  build({ ...onCommonJs, entryPoints: { cli: 'src/cli/entry.ts', worker: 'src/worker/entry.ts' } }),
];
/** In code that V8 runs from kept code, `import()` is a call of src/shared/process/compiled-code.ts. */
const buildMain = async (name, source, options = {}) => {
  await build({ ...onCommonJs, ...options, entryPoints: { [name]: source } });
  const path = `dist/${name}.cjs`;
  await writeFile(path, (await readFile(path, 'utf8')).replaceAll(/\bimport\((?="[^"]+"\))/g, 'importModule('));
};
/** Parts of the command line that most commands do not need: bundles of their own. */
const apart = { heavy: './cli-heavy.cjs', parser: './cli-parser.cjs' };
const partsApart = {
  name: 'parts-apart',
  setup: ({ onResolve }) =>
    onResolve({ filter: /\/(heavy|parser)\.ts$/ }, ({ kind, path }) =>
      kind === 'dynamic-import' ? { path: apart[basename(path, '.ts')], external: true } : undefined,
    ),
};
const mains = [
  ...['supervisor', 'writer', 'worker'].map((role) => buildMain(`${role}-main`, `src/${role}/main.ts`)),
  buildMain('gateway-main', 'src/gateway/main.ts', {
    // Fastify loads them only where nobody gives compilers of his own: see src/gateway/app.ts.
    external: [...external, '@fastify/ajv-compiler', '@fastify/fast-json-stringify-compiler'],
  }),
  buildMain('cli-heavy', 'src/cli/heavy.ts'),
  buildMain('cli-main', 'src/cli/main.ts', { minifyWhitespace: true, plugins: [partsApart] }).then(writeHelp),
  buildMain('cli-parser', 'src/cli/parsing/parser.ts', {
    define: { ...onCommonJs.define, 'Intl.Segmenter': 'LazySegmenter' },
    inject: ['src/cli/parsing/lazy-segmenter.ts'],
  }),
];

// Where the command line of earlier versions begins: services of users name it.
const earlierEntry = writeFile('dist/cli.js', "import './cli.cjs';\n");

/** The help of each command as text, so that `--help` need not load the parser. */
async function writeHelp() {
  const path = resolve('dist/all-help.mjs'); // Packages that stay outside are found from there.
  try {
    await build({
      ...onNode,
      outdir: undefined,
      outfile: path,
      sourcemap: false,
      entryPoints: ['src/cli/all-help.ts'],
    });
    const { allHelp, helpWidths } = await import(pathToFileURL(path).href);
    for (const width of helpWidths) await writeFile(`dist/help-${width}.json`, JSON.stringify(await allHelp(width)));
  } finally {
    await rm(path);
  }
}
const browser = build({
  entryPoints: { 'sdk-browser': 'src/sdk/browser.ts' },
  outdir: 'dist',
  bundle: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2022',
  sourcemap: true,
  logLevel: 'warning',
});
const dashboard = buildPage({
  configFile: false,
  root: 'src/ui',
  base: '/ui/',
  logLevel: 'warn',
  // Nothing inlined: the policy of the page allows files alone.
  build: {
    outDir: '../../dist/ui',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
await Promise.all([types, earlierEntry, ...entries, ...mains, browser, dashboard, buildRunner()]);
