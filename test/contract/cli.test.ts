// Tests the command line against a real server: its output, exit codes, interrupts and closed pipes. Also tests how it
// starts a server in the background.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandTable } from '../../src/cli/commands/command-table.ts';
import { BoxRun } from '../../src/sdk/index.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let server: TestServer;

beforeAll(async () => {
  server = await startServer({ maxCpu: 8 });
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 128 });
});
afterAll(async () => {
  await server.close();
});

function start(args: readonly string[], env: NodeJS.ProcessEnv = server.env): ChildProcess {
  return spawn(process.execPath, [cliBundle, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
}

async function finish(child: ChildProcess): Promise<Result> {
  const text = { stdout: '', stderr: '' };
  child.stdout?.on('data', (piece: Buffer) => (text.stdout += piece.toString('latin1')));
  child.stderr?.on('data', (piece: Buffer) => (text.stderr += piece.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...text };
}

const boxrun = (...args: string[]) => finish(start(args));

it('the command line creates, lists, stops, starts and removes a box', async () => {
  const created = await boxrun('create', 'base', '--name', 'life', '--cpu', '1', '-m', '64', '-d', '1');
  expect(created.code).toBe(0);
  expect(created.stdout).toMatch(/^box_[A-Za-z0-9_-]{12}\nName: life\nStatus: running\n$/);
  const id = created.stdout.split('\n')[0] ?? '';
  const listed = await boxrun('ls');
  expect(listed.stdout).toMatch(/^ID\s+NAME\s+STATUS/);
  expect(listed.stdout).toContain(`${id}  life  running  base`);
  expect((await boxrun('stop', 'life')).stdout).toContain('Status: stopped');
  expect((await boxrun('ls', '-s', 'stopped')).stdout).toContain(id);
  expect((await boxrun('start', id)).stdout).toContain('Status: running');
  const refused = await boxrun('rm', 'life');
  expect(refused).toMatchObject({ code: 1, stdout: '' });
  expect(refused.stderr).toMatch(/^Error: \[BOX_ALREADY_RUNNING\] .*\nHint: /);
  expect(await boxrun('rm', '-f', 'life')).toMatchObject({ code: 0, stdout: 'Removed: life\n' });
  expect((await boxrun('gc', '--older-than', '0')).stdout).toBe('Removed: 0\n');
});

describe('boxrun exec', () => {
  it('prints the output of the command, and returns its exit code', async () => {
    expect(await boxrun('exec', 'web', '--', 'sh', '-c', 'echo out; echo err >&2; exit 9')).toEqual({
      code: 9,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect((await boxrun('exec', 'web', '--', 'no-such-command')).code).toBe(127);
  });

  it('passes all arguments after -- unchanged', async () => {
    expect((await boxrun('exec', 'web', '--', 'echo', '--help', '-t', '5', '--', '007', '')).stdout).toBe(
      '--help -t 5 -- 007 \n',
    );
  });

  it('prints every byte of the output unchanged', async () => {
    const script = "printf '\\000\\377\\376\\r\\n'; head -c 300000 /dev/zero | tr '\\0' '\\201'";
    const { stdout } = await boxrun('exec', 'web', '--', 'sh', '-c', script);
    expect(stdout).toBe(`\x00\xff\xfe\r\n${'\x81'.repeat(300_000)}`);
  });

  it('prints output while the command runs', async () => {
    const child = start(['exec', 'web', '--', 'sh', '-c', 'echo first; sleep 5']);
    const [piece] = (await once(child.stdout as NonNullable<ChildProcess['stdout']>, 'data')) as [Buffer];
    expect(piece.toString()).toBe('first\n');
    expect(child.exitCode).toBeNull();
    child.kill('SIGINT');
    expect((await finish(child)).code).toBe(130);
  });

  it('kills the command after its timeout', async () => {
    const result = await boxrun('exec', 'web', '-t', '0.3', '--', 'sleep', '60');
    expect(result.code).toBe(137);
    expect(result.stderr).toContain('timed out');
  });

  it('prints the id of the command and ends with -d', async () => {
    const { code, stdout } = await boxrun('exec', '-d', 'web', '--', 'sleep', '30');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^exec_[A-Za-z0-9_-]{12}\n$/);
    const exec = await server.client.getExec('web', stdout.trim());
    expect(exec.status).toBe('running');
    await server.client.cancelExec('web', exec.id);
  });

  it('cancels the command in the box on Ctrl-C, and prints that', async () => {
    const child = start(['exec', 'web', '--', 'sh', '-c', 'echo begun; sleep 300']);
    await once(child.stdout as NonNullable<ChildProcess['stdout']>, 'data');
    child.kill('SIGINT');
    const { code, stderr } = await finish(child);
    expect(code).toBe(130);
    expect(stderr).toContain('canceled the command in the box');
    const [newest] = await server.client.listExecs('web');
    expect(newest?.status).toBe('canceled');
  });

  it('ends without a message, and cancels the command, when its output is closed', async () => {
    const child = start(['exec', 'web', '--', 'yes']);
    await once(child.stdout as NonNullable<ChildProcess['stdout']>, 'data');
    child.stdout?.destroy();
    const { code, stderr } = await finish(child);
    expect({ code, stderr }).toEqual({ code: 141, stderr: '' });
    await eventually(
      'the command is canceled',
      async () => (await server.client.listExecs('web'))[0]?.status === 'canceled',
    );
  });
});

it('boxrun run runs a command in a new box, and removes the box', async () => {
  const size = ['--cpu', '1', '-m', '64'];
  const result = await boxrun('run', ...size, 'base', '--', 'sh', '-c', 'echo out; echo err >&2; exit 4');
  expect(result).toEqual({ code: 4, stdout: 'out\n', stderr: 'err\n' });
  // The output comes while the command runs, and its bytes are unchanged.
  const talking = start(['run', ...size, 'base', '--', 'sh', '-c', "printf '\\377\\n'; sleep 300"]);
  const [first] = (await once(talking.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  expect(first).toEqual(Buffer.from([0xff, 0x0a]));
  talking.kill('SIGINT');
  expect(await finish(talking)).toMatchObject({ code: 130 });
  await eventually('its box is gone', async () => (await server.client.listBoxes()).length === 1);
  const child = start(['run', ...size, 'base', '--', 'sleep', '300']);
  await eventually('its box runs', async () => (await server.client.listBoxes()).length === 2);
  child.kill('SIGINT');
  expect(await finish(child)).toMatchObject({ code: 130 });
  await eventually('its box is gone', async () => (await server.client.listBoxes()).length === 1);
});

it('the command line prints an error with its code', async () => {
  const result = await boxrun('exec', 'nobody', '--', 'true');
  expect(result).toMatchObject({ code: 1, stdout: '' });
  expect(result.stderr).toMatch(/^Error: \[BOX_NOT_FOUND\] /m);
  const image = await boxrun('create', '127.0.0.1:9/no:image', '--cpu', '1');
  // A slow pull is announced first.
  expect(image.stderr).toMatch(/^Error: \[IMAGE_PULL_FAILED\] /m);
});

it.each([
  [[], 'no command given'],
  [['frobnicate'], 'unknown command frobnicate'],
  [['create', '--cpu', 'two'], '--cpu must be a whole number'],
  [['create', '--frob'], 'unknown option --frob'],
  [['create', '-v', '/a'], '--volume must be'],
  [['exec', 'web'], 'no command for the box'],
  [['exec', 'web', '--'], 'no command for the box'],
  [['exec', 'web', '--timeout', 'soon', '--', 'true'], '--timeout must be'],
  [['exec', 'web', '-t', 'soon', '--', 'true'], 'Unknown argument'],
  [['exec', 'web', '-it', '--', 'true'], 'needs a terminal'],
  [['exec', 'web', '-id', '--', 'true'], 'choose one of'],
  [['ls', '--', 'x'], 'this command does not take words after --'],
  [['ls', '-s', 'gone'], 'Invalid values'],
])('the command line exits with 2 for wrong arguments: boxrun %j', async (args, message) => {
  const { code, stdout, stderr } = await boxrun(...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(message);
});

it.each(commandTable.map(({ name }) => name))('boxrun %s --help has an example', async (command) => {
  const { code, stdout } = await boxrun(command, '--help');
  expect(code).toBe(0);
  expect(stdout).toContain('Examples:');
});

it('boxrun images lists the images and the short names of registry images', async () => {
  const { code, stdout } = await boxrun('images');
  expect(code).toBe(0);
  expect(stdout).toContain('base');
  expect(stdout).toContain('ubuntu:24.04');
});

describe('the command line without a server', () => {
  async function withStateDir(work: (env: NodeJS.ProcessEnv, stateDir: string) => Promise<void>): Promise<void> {
    const stateDir = await mkdtemp(join(tmpdir(), 'boxrun-test-'));
    try {
      await work({ ...server.env, BOXRUN_STATE_DIR: stateDir, HOME: stateDir, BOXRUN_WORKERS: '0' }, stateDir);
    } finally {
      for (const { pid, role } of await processesOf(stateDir)) if (role === 'keeper') process.kill(pid, 'SIGTERM');
      await eventually('its processes are gone', async () => (await processesOf(stateDir)).length === 0, 15_000);
      await rm(stateDir, { recursive: true, force: true });
    }
  }

  it('starts one server in the background, even if three commands need it at once', async () => {
    await withStateDir(async (env, stateDir) => {
      const port = 20_000 + (process.pid % 20_000);
      const results = await Promise.all(
        [1, 2, 3].map(() => finish(start(['ls'], { ...env, BOXRUN_PORT: String(port) }))),
      );
      for (const { code, stderr } of results) {
        expect({ code, stderr }).toMatchObject({ code: 0 });
        expect(stderr).toMatch(/^(boxrun: (starting the server|waiting for .*) \.\.\.\n)?$/);
      }
      const keepers = (await processesOf(stateDir)).filter(({ role }) => role === 'keeper');
      expect(keepers).toHaveLength(1);
      expect(await readFile(join(stateDir, 'logs/serve.log'), 'utf8')).toContain('BoxRun is ready');
    });
  });

  it('reports why the server could not be started', async () => {
    await withStateDir(async (env, stateDir) => {
      const own = { BOXRUN_SOCKET: join(stateDir, 'own.sock'), BOXRUN_PORT: String(server.port) };
      const result = await finish(start(['ls'], { ...env, ...own }));
      expect(result.code).toBe(1);
      expect(result.stderr).toContain('Error: [UNAVAILABLE] the server could not be started');
      expect(result.stderr).toContain(`cannot listen on 127.0.0.1:${server.port}`);
      const remote = await finish(start(['ls'], { ...env, BOXRUN_HOST: '192.0.2.1', BOXRUN_PORT: '9' }));
      expect(remote.stderr).toContain('Error: [UNAVAILABLE] no server answers at 192.0.2.1:9');
    });
  });
});

describe('boxrun serve', () => {
  it('refuses a state directory that another server uses', async () => {
    const { code, stderr } = await boxrun('serve', '--port', '0');
    expect(code).toBe(1);
    expect(stderr).toContain('another server uses the state directory');
  });

  it('listens only on the socket with --socket and without --port', async () => {
    const stateDir = await mkdtemp(join(tmpdir(), 'boxrun-test-'));
    const socket = join(stateDir, 'own.sock');
    const env = { ...server.env, BOXRUN_STATE_DIR: stateDir };
    const child = start(['serve', '--socket', socket, '--workers', '0'], env);
    const ended = finish(child);
    const client = new BoxRun({ socketPath: socket });
    await eventually(
      'it answers',
      () =>
        client.info().then(
          () => true,
          () => false,
        ),
      60_000,
    );
    await client.close();
    child.kill('SIGTERM');
    const { code, stdout } = await ended;
    expect(code).toBe(0);
    expect(stdout).toContain(socket);
    expect(stdout).not.toContain('http://');
    await rm(stateDir, { recursive: true, force: true });
  });
});
