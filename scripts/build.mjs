// Builds dist/: one self-contained bundle per process, so that files replaced under a running server do not reach it.
// Only packages with native parts or files of their own stay outside.
import { build } from 'esbuild';
import { rm } from 'node:fs/promises';

const external = ['better-sqlite3', '@boxlite-ai/boxlite', 'piscina', 'pino-pretty'];

await rm('dist', { recursive: true, force: true });
await build({
  entryPoints: {
    cli: 'src/cli/main.ts',
    supervisor: 'src/supervisor/main.ts',
    gateway: 'src/gateway/main.ts',
    'gateway-reader': 'src/gateway/reader-thread.ts',
    writer: 'src/writer/main.ts',
    worker: 'src/worker/main.ts',
    sdk: 'src/sdk/index.ts',
  },
  outdir: 'dist',
  bundle: true,
  splitting: false,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  sourcemap: true,
  external,
  logLevel: 'warning',
  // Bundled CommonJS packages ask for Node's own modules through `require`.
  banner: { js: "import { createRequire as boxrunCreateRequire } from 'node:module'; const require = boxrunCreateRequire(import.meta.url);" },
});
