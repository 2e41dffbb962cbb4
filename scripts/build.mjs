// Builds dist/: one self-contained bundle per process, so that an upgrade does not change the code of a running server.
// Only packages with native parts or with their own files stay outside the bundles. Also builds the SDK for browsers,
// the types of the SDK, the dashboard in dist/ui, and the runner.
import { build } from 'esbuild';
import { build as buildPage } from 'vite';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildPrograms } from './build-programs.mjs';
import { buildCommandLine, buildKeptMain } from './build-cli.mjs';

const external = ['better-sqlite3', '@boxlite-ai/boxlite', 'piscina', 'pino-pretty'];

// The npm name that `boxrun upgrade` installs. Leave it unset until that name belongs to this project.
const publishedName = process.env.BOXRUN_PUBLISHED_NAME ?? '';

/** The id of this build, which is equal for equal sources. Processes compare it (src/shared/process/build.ts). */
async function buildId() {
  const sources = (await readdir('src', { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const digest = createHash('sha256');
  const paths = sources.map(({ parentPath, name }) => join(parentPath, name)).sort();
  for (const path of [...paths, 'scripts/build.mjs', 'scripts/build-cli.mjs', 'package-lock.json']) {
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
  // Bundled CommonJS packages load the modules of Node with `require`, which an ES module does not have.
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
// Each process and the command line has a small entry and a main bundle. The main bundle is CommonJS, because V8's
// compiled code can be kept only for CommonJS (src/shared/process/compiled-code.ts). The names of the entries must not
// change: a running server of an earlier version starts its processes by these names.
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
  build({ ...onCommonJs, entryPoints: { worker: 'src/worker/entry.ts' } }),
];
const buildMain = (name, source, options = {}) => buildKeptMain(onCommonJs, name, source, options);
const mains = [
  ...['supervisor', 'writer', 'worker'].map((role) => buildMain(`${role}-main`, `src/${role}/main.ts`)),
  buildMain('gateway-main', 'src/gateway/main.ts', {
    // Fastify loads these only if it gets no other compilers, and src/gateway/app.ts gives it others.
    external: [...external, '@fastify/ajv-compiler', '@fastify/fast-json-stringify-compiler'],
  }),
  buildMain('cli-heavy', 'src/cli/heavy.ts'),
  buildCommandLine(onCommonJs, onNode),
];

// The entry of the command line in earlier versions. Unit files of users still name it.
const earlierEntry = writeFile('dist/cli.js', "import './cli.cjs';\n");

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
  // Nothing is inlined, because the Content-Security-Policy of the page allows only files.
  build: {
    outDir: '../../dist/ui',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
await Promise.all([types, earlierEntry, ...entries, ...mains, browser, dashboard, buildPrograms()]);
