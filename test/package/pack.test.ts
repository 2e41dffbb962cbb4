// Tests the package as users get it: packed, installed by npm into an empty prefix, run there, and uninstalled by
// itself. Prints its sizes and times. After packing, nothing of the checkout is used except SQLite's binary (see
// prebuiltSqlite).
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { processesOf } from '../support/host/processes.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string }[];
}

let home: string;
let prefix: string;
let stateDir: string;
let packed: Packed;

const env = () => ({
  ...process.env,
  HOME: home,
  BOXRUN_STATE_DIR: stateDir,
  BOXRUN_DRIVER: 'container',
  BOXRUN_SOCKET: '',
  BOXRUN_HOST: '',
  BOXRUN_PORT: '0',
  BOXRUN_WORKERS: '0',
});
const boxrun = (...args: string[]) =>
  run(join(prefix, 'bin/boxrun'), args, { env: { ...env(), BOXRUN_SOCKET: join(stateDir, 'boxrun.sock') } });
const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

async function treeBytes(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/**
 * Gives the installer of SQLite's native module the binary of the checkout. Most users get this binary as a download
 * for their Node. Without access to that site, it would be compiled for minutes. The installer looks in this directory
 * before it downloads. It ignores a binary for another Node, and then downloads or compiles one.
 */
async function prebuiltSqlite(directory: string): Promise<NodeJS.ProcessEnv> {
  const source = join(root, 'node_modules/better-sqlite3');
  const { version } = JSON.parse(await readFile(join(source, 'package.json'), 'utf8')) as { version: string };
  const name = `better-sqlite3-v${version}-node-v${process.versions.modules}-${process.platform}-${process.arch}.tar.gz`;
  await mkdir(directory);
  await run('tar', ['-czf', join(directory, name), '-C', source, 'build/Release/better_sqlite3.node']);
  return { npm_config_better_sqlite3_local_prebuilds: directory };
}

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'boxrun-package-'));
  prefix = join(home, 'prefix');
  stateDir = join(home, 'state');
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', home, '--loglevel=error'], {
    cwd: root,
    maxBuffer: 2 ** 24,
  });
  // The output of prepack comes before the list.
  packed = (JSON.parse(stdout.slice(stdout.indexOf('[\n'))) as Packed[])[0] as Packed;
  const installEnv = { ...process.env, ...(await prebuiltSqlite(join(home, 'prebuilds'))) };
  const startedAt = Date.now();
  await run('npm', ['install', '--global', '--prefix', prefix, '--loglevel=error', join(home, packed.filename)], {
    maxBuffer: 2 ** 24,
    env: installEnv,
  });
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  const installed = await treeBytes(join(prefix, 'lib/node_modules/boxrun'));
  console.log(
    `package ${mib(packed.size)}, unpacked ${mib(packed.unpackedSize)}; installed with what it needs ${mib(installed)} in ${seconds} s`,
  );
}, 900_000);
afterAll(async () => {
  await rm(home, { recursive: true, force: true });
});

it('the package has what users need and nothing else', () => {
  const paths = packed.files.map(({ path }) => path);
  for (const path of [
    'README.md',
    'CHANGELOG.md',
    'docs/cli.md',
    'bin/boxrun',
    'dist/cli.cjs',
    'dist/sdk.js',
    'dist/sdk-browser.js',
    'dist/types/sdk/index.d.ts',
    `dist/agent-linux-${process.arch}`,
    `dist/runner-linux-${process.arch}`,
  ]) {
    expect(paths).toContain(path);
  }
  const foreign = paths.filter(
    (path) =>
      !/^(bin\/|dist\/|docs\/[\w-]+\.md$|package\.json$|README\.md$|CHANGELOG\.md$|SECURITY\.md$|LICENSE$)/.test(
        path,
      ) || /\.map$|\.test\./.test(path),
  );
  expect(foreign).toEqual([]);
});

it('the installed program tells what works on this host', async () => {
  const { stdout } = await boxrun('doctor', '--driver', 'container');
  expect(stdout).toContain('driver container (chosen): works');
});

it('the installed program runs a command in a box, and starts its own server for this', async () => {
  const { stdout } = await boxrun('run', 'base', '--cpu', '1', '-m', '64', '--', 'echo', 'hi');
  expect(stdout).toBe('hi\n');
});

it('the installed package gives programs its SDK with types', async () => {
  const project = join(home, 'project');
  await mkdir(project);
  await symlink(join(prefix, 'lib/node_modules'), join(project, 'node_modules'));
  await writeFile(join(project, 'package.json'), '{"type": "module"}');
  await writeFile(
    join(project, 'main.ts'),
    `import { BoxRun, type Box } from 'boxrun/sdk';
const client = new BoxRun({ socketPath: ${JSON.stringify(join(stateDir, 'boxrun.sock'))} });
const info = await client.info();
const limit: number = info.max_cpu;
const boxes: readonly Box[] = await client.listBoxes();
console.log(limit > 0, boxes.length);
await client.close();
`,
  );
  const options = [
    '--strict',
    '--module',
    'nodenext',
    '--target',
    'es2022',
    '--lib',
    'es2023,dom,esnext.disposable',
    '--skipLibCheck',
    'main.ts',
  ];
  await run(join(root, 'node_modules/typescript/bin/tsc'), options, { cwd: project }).catch(
    ({ stdout }: { stdout: string }) => expect(stdout).toBe(''),
  );
  const { stdout } = await run(process.execPath, ['main.js'], { cwd: project });
  expect(stdout).toBe('true 0\n');
});

it('the installed program says how to update, and installs no package by a name that is not registered', async () => {
  const refused = await boxrun('upgrade').then(
    () => null,
    (error: { code: number; stdout: string }) => error,
  );
  expect(refused).toMatchObject({ code: 1 });
  expect(refused?.stdout).toContain('not published');
  expect(refused?.stdout).toContain(`npm install --global --prefix ${prefix} ./boxrun-*.tgz`);
  expect(refused?.stdout).not.toContain('Running: npm');
});

it('the installed program uninstalls its server, its data and its package', async () => {
  await boxrun('create', 'base', '--cpu', '1', '-m', '64');
  const { stdout } = await boxrun('uninstall', '--yes', '--purge-data');
  expect(stdout).toContain('Stopping the server');
  expect(await processesOf(stateDir)).toEqual([]);
  expect(await exists(stateDir)).toBe(false);
  expect(await exists(join(prefix, 'lib/node_modules/boxrun'))).toBe(false);
});
