// `npm run pack:client [DIRECTORY]`: makes the package boxrun-client, which has only the commands that talk to a
// server. It has no native modules and needs no other package, so that npm installs it in a moment, without a compiler.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { buildCommandLine } from './build-cli.mjs';

const target = resolve(process.argv[2] ?? '.');
const { version, license, engines } = JSON.parse(readFileSync('package.json', 'utf8'));
const directory = mkdtempSync(join(tmpdir(), 'boxrun-client-'));
try {
  const outdir = join(directory, 'dist');
  mkdirSync(outdir);
  mkdirSync('dist', { recursive: true });
  const onNode = {
    outdir,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    minify: true,
    logLevel: 'warning',
    define: { boxrunBuild: JSON.stringify(`client-${version}`), boxrunClientOnly: 'true' },
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  };
  const onCommonJs = {
    ...onNode,
    outExtension: { '.js': '.cjs' },
    format: 'cjs',
    define: { ...onNode.define, 'import.meta.url': 'boxrunImportMetaUrl' },
    banner: { js: "'use strict'; const boxrunImportMetaUrl = require('node:url').pathToFileURL(__filename).href;" },
  };
  await buildCommandLine(onCommonJs, onNode);
  cpSync('bin/boxrun', join(directory, 'bin/boxrun'));
  writeFileSync(
    join(directory, 'README.md'),
    '# boxrun-client\n\nThe command `boxrun` without a server: it talks to a server of BoxRun. `BOXRUN_SOCKET`, or\n' +
      '`BOXRUN_HOST` and `BOXRUN_PORT`, say where the server is, and `BOXRUN_TOKEN` is its token.\n',
  );
  const description = 'The command line of BoxRun for a server on another host: no server, no native modules';
  const man = readdirSync(join(outdir, 'man')).map((name) => `dist/man/${name}`);
  const manifest = {
    name: 'boxrun-client',
    version,
    description,
    license,
    engines,
    bin: { boxrun: 'bin/boxrun' },
    man,
  };
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ ...manifest, files: ['bin', 'dist'] }, null, 2));
  execFileSync('npm', ['pack', '--pack-destination', target, '--loglevel=error'], { cwd: directory, stdio: 'inherit' });
} finally {
  rmSync(directory, { recursive: true, force: true });
}
