// Tests commands of the command line against a real server: ls, info, images, execs and logs with their JSON and ids,
// cp, service, and upgrade and uninstall without an installation.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let directory: string;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  server = await startServer({ maxCpu: 8 });
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 128 });
  directory = await mkdtemp(join(tmpdir(), 'boxrun-cli-'));
  await mkdir(join(directory, 'bin'));
  await writeFile(join(directory, 'bin/boxrun'), `#!/bin/sh\nexec "${process.execPath}" "${cliBundle}" "$@"\n`);
  await chmod(join(directory, 'bin/boxrun'), 0o755);
  env = { ...server.env, PATH: `${join(directory, 'bin')}:${process.env['PATH']}` };
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
  await server.close();
});

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}
const run = (program: string, args: readonly string[]) =>
  new Promise<Result>((resolve) => {
    execFile(program, args, { env, cwd: directory }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
const boxrun = (...args: string[]) => run(process.execPath, [cliBundle, ...args]);

it('ls, info and images print JSON with --json, and ids or names with -q', async () => {
  const { id } = await server.client.getBox('web');
  expect((await boxrun('ls', '-q')).stdout).toBe(`${id}\n`);
  expect(JSON.parse((await boxrun('ls', '--json')).stdout)).toMatchObject([{ id, name: 'web', status: 'running' }]);
  expect((await boxrun('ls', '-q', '--label', 'none=such')).stdout).toBe('');
  expect(JSON.parse((await boxrun('info', '--json')).stdout)).toMatchObject({
    max_cpu: 8,
    used_cpu: 1,
    running: 1,
    boxes: 1,
  });
  expect((await boxrun('info')).stdout).toMatch(/^CPUs\s+1 of 8 used$/m);
  expect(JSON.parse((await boxrun('images', '--json')).stdout)).toMatchObject({
    images: [{ name: 'base' }],
    aliases: { default: 'ubuntu:24.04' },
  });
  expect((await boxrun('images', '-q')).stdout).toBe('base\n');
});

it('ls -l finds boxes by their labels', async () => {
  const created = await boxrun('create', 'base', '--cpu', '1', '-m', '64', '-l', 'team=docs', '--label', 'a=b=c', '-q');
  expect(created.code).toBe(0);
  expect((await boxrun('ls', '-q', '-l', 'team', '-l', 'a=b=c')).stdout).toBe(created.stdout);
  expect((await boxrun('ls', '-q', '-l', 'team=other')).stdout).toBe('');
  expect(await boxrun('rm', '-f', created.stdout.trim())).toMatchObject({ code: 0 });
});

it('exec and run set the variables and the directory of a command', async () => {
  const { stdout } = await boxrun(
    'exec',
    '-e',
    'A=1 2',
    '-e',
    'B=',
    '-w',
    '/tmp',
    'web',
    '--',
    'sh',
    '-c',
    'echo "$A|${B-none}|$(pwd)"',
  );
  expect(stdout).toBe('1 2||/tmp\n');
  expect(
    await boxrun('run', 'base', '--cpu', '1', '-m', '64', '-e', 'A=x', '--json', '--', 'sh', '-c', 'echo $A; exit 3'),
  ).toMatchObject({ code: 3 });
});

it('execs lists the commands of a box, and logs prints their output again', async () => {
  const exec = await server.client.startExec('web', ['sh', '-c', 'echo out; echo err >&2; exit 5']);
  expect(await boxrun('logs', '-f', 'web', exec.id)).toEqual({ code: 0, stdout: 'out\n', stderr: 'err\n' });
  const events = (await boxrun('logs', '--json', 'web', exec.id)).stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as object);
  expect(events.at(-1)).toEqual({ seq: events.length - 1, type: 'exit', exit_code: 5, error: null });
  expect((await boxrun('execs', '-q', 'web')).stdout.split('\n')[0]).toBe(exec.id);
  expect((await boxrun('execs', 'web')).stdout).toMatch(
    new RegExp(`^${exec.id}\\s+failed\\s+5\\s.*sh -c 'echo out; echo err >&2; exit 5'$`, 'm'),
  );
});

it('logs --all prints the output of all commands, and --since that of the later ones', async () => {
  const { id } = await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
  const first = await server.client.exec(id, ['sh', '-c', 'echo one; echo bad >&2']);
  await server.client.exec(id, ['echo', 'two']);
  const [second] = (await server.client.pageOfExecs(id, { limit: 1 })).rows;
  const all = await boxrun('logs', '--all', id);
  expect(all).toMatchObject({ code: 0, stdout: 'one\ntwo\n' });
  expect(all.stderr).toMatch(/^==> exec_.*: sh -c 'echo one.*\nbad\n==> exec_.*: echo two\n$/);
  expect((await boxrun('logs', '--since', '1h', id)).stdout).toBe('one\ntwo\n');
  expect((await boxrun('logs', '--since', second?.created_at ?? '', id)).stdout).toBe('two\n');
  const events = (await boxrun('logs', '--all', '--json', id)).stdout.trimEnd().split('\n');
  expect(events.map((line) => (JSON.parse(line) as { exec_id: string }).exec_id)).toContain(second?.id);
  expect(first.exitCode).toBe(0);
  for (const wrong of [
    ['--since', 'soon'],
    ['--all', '-f'],
    ['--since', '1h', '-n', '3'],
  ])
    expect(await boxrun('logs', id, ...wrong)).toMatchObject({ code: 2 });
  await server.client.removeBox(id, { force: true });
});

it('logs prints the output so far, logs -f follows it, and Ctrl-C does not end the command', async () => {
  const exec = await server.client.startExec('web', ['sh', '-c', 'echo begun; sleep 300']);
  expect(await boxrun('logs', 'web', exec.id)).toEqual({ code: 0, stdout: 'begun\n', stderr: '' });
  const child = spawn(process.execPath, [cliBundle, 'logs', '-f', 'web', exec.id], { env });
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  expect((await ended)[0]).toBe(130);
  expect((await server.client.getExec('web', exec.id)).status).toBe('running');
  await server.client.cancelExec('web', exec.id);
});

it('cp copies directories in both directions, with contents, modes and links', async () => {
  const site = join(directory, 'site');
  await mkdir(join(site, 'deep/er'), { recursive: true });
  const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, at) => at % 251));
  await writeFile(join(site, 'deep/er/a b\u00e9.bin'), bytes);
  await writeFile(join(site, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 });
  await symlink('run.sh', join(site, 'link'));
  expect(await boxrun('cp', 'site', 'web:/srv/fresh')).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(await boxrun('cp', 'site', 'web:/srv')).toMatchObject({ code: 0 });
  const { stdout } = await boxrun('exec', 'web', '--', 'sh', '-c', 'cd /srv && ls -A fresh site; readlink site/link');
  expect(stdout).toBe('fresh:\ndeep\nlink\nrun.sh\n\nsite:\ndeep\nlink\nrun.sh\nrun.sh\n');
  expect(await boxrun('cp', 'web:/srv/site', 'back/again')).toMatchObject({ code: 0 });
  expect((await readFile(join(directory, 'back/again/deep/er/a b\u00e9.bin'))).equals(bytes)).toBe(true);
  expect((await stat(join(directory, 'back/again/run.sh'))).mode & 0o777).toBe(0o755);
  expect((await boxrun('exec', 'web', '--', 'ls', '-A', '/srv')).stdout).toBe('fresh\nsite\n');
});

it('cp fails with a clear error when its arguments, its source or its box are wrong', async () => {
  expect(await boxrun('cp', 'a', 'b')).toMatchObject({ code: 2 });
  expect((await boxrun('cp', 'web:/no/such', 'x')).stderr).toMatch(/^Error: \[RUNTIME_ERROR\] /);
  expect(await boxrun('cp', 'no-such', 'web:/tmp/x')).toMatchObject({ code: 1 });
  expect((await boxrun('cp', 'site', 'nobody:/x')).stderr).toMatch(/^Error: \[BOX_NOT_FOUND\] /);
});

it('completion prints a script for PowerShell that calls boxrun', async () => {
  const { code, stdout } = await boxrun('completion', 'powershell');
  expect(code).toBe(0);
  expect(stdout).toMatch(/Register-ArgumentCompleter -Native -CommandName boxrun/);
  expect(stdout).toContain('boxrun __complete');
});

it('service install --print prints a unit file, and service status reports a missing service', async () => {
  const printed = await boxrun('service', 'install', '--print', '--', '--port', '9191');
  expect(printed).toMatchObject({ code: 0, stderr: '' });
  expect(printed.stdout).toContain('"serve" "--port" "9191"');
  expect(printed.stdout).toContain(`Environment="BOXRUN_STATE_DIR=${server.stateDir}"`);
  expect(await boxrun('service', 'install', '--print', '--', '--prot', '1')).toMatchObject({ code: 2 });
  const { code, stdout } = await boxrun('service', 'status', '--user', '--json');
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ unit: 'boxrun.service', installed: false, active: false, answers: true });
});

it.skipIf(existsSync('/run/systemd/system'))('service install fails when systemd does not run', async () => {
  const { code, stderr } = await boxrun('service', 'install');
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('--print') as string });
});

it('upgrade and uninstall print what they would do, and do nothing without a confirmation', async () => {
  expect(await boxrun('upgrade')).toMatchObject({
    code: 1,
    stdout: expect.stringContaining('git pull && npm ci') as string,
  });
  const dry = await boxrun('uninstall', '--dry-run', '--purge-data');
  expect(dry.stdout).toMatch(/Would remove every box\nWould stop the server\nWould remove the data in /);
  expect(await boxrun('uninstall')).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') as string });
  expect(await boxrun('uninstall', '--yes', '--keep-data', '--purge-data')).toMatchObject({ code: 2 });
  expect((await server.client.getBox('web')).status).toBe('running');
});
