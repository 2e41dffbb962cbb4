// Builds dist/: one self-contained bundle per process, so that files replaced under a running server do not reach it.
// Only packages with native parts or files of their own stay outside. The command line alone is split, so that each
// command loads what it needs and no more. Beside them, the SDK for browsers, the SDK's types, the dashboard in
// dist/ui, and the runner.
import { build } from 'esbuild';
import { build as buildPage } from 'vite';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildRunner } from './build-runner.mjs';

const external = ['better-sqlite3', '@boxlite-ai/boxlite', 'piscina', 'pino-pretty'];

/** By it a process tells whether another one is of the same build (src/shared/build.ts): equal for equal sources. */
async function buildId() {
  const sources = (await readdir('src', { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const digest = createHash('sha256');
  const paths = sources.map(({ parentPath, name }) => join(parentPath, name)).sort();
  for (const path of [...paths, 'scripts/build.mjs', 'package-lock.json']) {
    digest.update(path).update(await readFile(path));
  }
  return digest.digest('hex').slice(0, 16);
}

await rm('dist', { recursive: true, force: true });
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
// The npm name that `boxrun upgrade` installs. Leave it unset until that name belongs to this project.
const publishedName = process.env.BOXRUN_PUBLISHED_NAME ?? '';
const commandLine = build({
  ...onNode,
  entryPoints: { cli: 'src/cli/main.ts' },
  splitting: true,
  chunkNames: 'cli-[name]-[hash]',
  define: { ...onNode.define, boxrunPublishedName: JSON.stringify(publishedName) },
});
const processes = build({
  ...onNode,
  entryPoints: {
    supervisor: 'src/supervisor/main.ts',
    gateway: 'src/gateway/main.ts',
    'gateway-reader': 'src/gateway/reader-thread.ts',
    writer: 'src/writer/main.ts',
    sdk: 'src/sdk/index.ts',
  },
});
// CommonJS, since only of that can what V8 compiles be kept (src/worker/compiled-code.ts).
const onCommonJs = {
  ...onNode,
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  define: { ...onNode.define, 'import.meta.url': 'boxrunImportMetaUrl' },
  banner: { js: "'use strict'; const boxrunImportMetaUrl = require('node:url').pathToFileURL(__filename).href;" },
};
const worker = build({ ...onCommonJs, entryPoints: { worker: 'src/worker/entry.ts' } });
const workerMain = build({ ...onCommonJs, entryPoints: { 'worker-main': 'src/worker/main.ts' } }).then(async () => {
  const source = await readFile('dist/worker-main.cjs', 'utf8');
  await writeFile('dist/worker-main.cjs', source.replaceAll(/\bimport\((?="[^"]+"\))/g, 'importModule('));
});
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
await Promise.all([types, commandLine, processes, worker, workerMain, browser, dashboard, buildRunner()]);
