// Tests the package boxrun-client as users get it: packed, installed by npm without a compiler into an empty prefix,
// and used with a real server. It is small, needs no other package, and starts no server.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');
const bytesMax = 300_000;
let home: string;
let server: TestServer;
let packed: string;
/** PATH has node, npm, sh, readlink and dirname only: no compiler, no make, no python. */
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'boxrun-client-test-'));
  server = await startServer();
  await run(process.execPath, ['scripts/client-package.mjs', home], { cwd: root });
  const [file = ''] = (await readdir(home)).filter((name) => name.endsWith('.tgz'));
  packed = join(home, file);
  const programs = join(home, 'programs');
  await mkdir(programs);
  await symlink(process.execPath, join(programs, 'node'));
  await symlink(await realpath(join(dirname(process.execPath), 'npm')), join(programs, 'npm'));
  for (const name of ['sh', 'readlink', 'dirname']) {
    const { stdout } = await run('sh', ['-c', `command -v ${name}`]);
    await symlink(stdout.trim(), join(programs, name));
  }
  env = { PATH: programs, HOME: home, npm_config_update_notifier: 'false', npm_config_offline: 'true' };
  await run('npm', ['install', '--global', '--prefix', join(home, 'prefix'), '--loglevel=error', packed], { env });
}, 240_000);
afterAll(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

const boxrun = async (args: readonly string[], extra: NodeJS.ProcessEnv = {}) =>
  run(join(home, 'prefix/bin/boxrun'), args, { env: { ...env, ...extra } }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );

it(`the package is smaller than ${bytesMax / 1000} kB, and npm installs nothing else for it`, async () => {
  const { size } = await stat(packed);
  console.log(`boxrun-client: ${size} bytes`);
  expect(size).toBeLessThan(bytesMax);
  expect(await readdir(join(home, 'prefix/lib/node_modules'))).toEqual(['boxrun-client']);
  const installed = join(home, 'prefix/lib/node_modules/boxrun-client');
  expect(await readdir(installed)).not.toContain('node_modules');
  const files = await readdir(installed, { recursive: true });
  expect(files.filter((name) => name.endsWith('.node'))).toEqual([]);
  expect(await readdir(join(home, 'prefix/share/man/man1'))).toContain('boxrun-exec.1');
});

it('it shows its version, and lists, runs and copies with the server over its socket and over TCP', async () => {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  expect(await boxrun(['version'])).toMatchObject({ code: 0, stdout: `${version}\n` });
  for (const address of [
    { BOXRUN_SOCKET: server.socketPath },
    { BOXRUN_HOST: '127.0.0.1', BOXRUN_PORT: String(server.port) },
  ]) {
    const box = await boxrun(['create', 'base', '-n', 'web', '--cpu', '1', '-m', '64m'], address);
    expect(box).toMatchObject({ code: 0, stderr: '' });
    expect((await boxrun(['ls'], address)).stdout).toMatch(/^ID +NAME +STATUS[^]*web +running/);
    expect(await boxrun(['exec', 'web', 'echo', 'hello'], address)).toMatchObject({ code: 0, stdout: 'hello\n' });
    expect(await boxrun(['cp', packed, 'web:/root/packed'], address)).toMatchObject({ code: 0 });
    expect((await boxrun(['images', '-q'], address)).stdout).toContain('base\n');
    expect(await boxrun(['rm', '-f', 'web'], address)).toMatchObject({ code: 0, stdout: 'Removed: web\n' });
  }
});

it('without a server it says where it looked and what to set, and it starts none', async () => {
  const nowhere = { BOXRUN_SOCKET: join(home, 'no.sock') };
  for (const command of [['ls'], ['images'], ['rmi', 'tools'], ['run', 'base', 'true']]) {
    const { code, stderr } = await boxrun(command, nowhere);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/\[UNAVAILABLE\].*no\.sock\nHint: set BOXRUN_SOCKET/)]);
  }
});

it('commands of the server are refused with the name of the package that has them', async () => {
  const { code, stderr } = await boxrun(['serve']);
  expect([code, stderr]).toEqual([2, expect.stringContaining('install the package boxrun for: boxrun serve')]);
  expect((await boxrun(['--help'])).stdout).not.toContain('boxrun serve');
});
