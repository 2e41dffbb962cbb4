// Tests boxrun exec -i, boxrun exec -t without a local terminal, and boxrun events, against a real server.
// test/system/terminal.test.ts has the tests that need a terminal.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { openSync, closeSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  server = await startServer({ maxCpu: 8 });
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 128 });
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});
afterAll(async () => {
  await server.close();
});

interface Running {
  readonly child: ChildProcess;
  stdout(): Buffer;
  stderr(): string;
  /** The exit code. */
  readonly ended: Promise<number | null>;
}

function start(args: readonly string[], stdin: 'pipe' | number = 'pipe'): Running {
  const child = spawn(process.execPath, [cliBundle, ...args], { env: server.env, stdio: [stdin, 'pipe', 'pipe'] });
  children.add(child);
  const pieces = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  child.stdout?.on('data', (piece: Buffer) => pieces.stdout.push(piece));
  child.stderr?.on('data', (piece: Buffer) => pieces.stderr.push(piece));
  child.stdin?.on('error', () => undefined); // The command line may end before it has read its input.
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return {
    child,
    ended,
    stdout: () => Buffer.concat(pieces.stdout),
    stderr: () => Buffer.concat(pieces.stderr).toString(),
  };
}

async function give(
  input: Uint8Array | string,
  ...args: string[]
): Promise<{ code: number | null; stdout: Buffer; stderr: string }> {
  const running = start(args);
  running.child.stdin?.end(input);
  return { code: await running.ended, stdout: running.stdout(), stderr: running.stderr() };
}

const newest = async () => (await server.client.listExecs('web'))[0];

describe('boxrun exec -i', () => {
  it('passes every byte of its input to the command, and the end of it', async () => {
    const bytes = Buffer.concat([Buffer.from([0, 0x10, 0x11, 0x03, 0x04, 0xff, 0x0d, 0x0a]), randomBytes(5_000_000)]);
    const counted = await give(bytes, 'exec', '-i', 'web', '--', 'wc', '-c');
    expect({ ...counted, stdout: counted.stdout.toString() }).toEqual({ code: 0, stdout: '5000008\n', stderr: '' });
    const back = await give(bytes, 'exec', '-i', 'web', '--', 'cat');
    expect(back.code).toBe(0);
    expect(back.stdout.equals(bytes)).toBe(true);
  });

  it('passes an empty input, keeps stderr apart, and returns the exit code', async () => {
    const result = await give('', 'exec', '-i', 'web', '--', 'sh', '-c', 'cat; echo oops >&2; exit 7');
    expect({ ...result, stdout: result.stdout.toString() }).toEqual({ code: 7, stdout: '', stderr: 'oops\n' });
  });

  it('ends when the command ends without reading all of its input', async () => {
    const running = start(['exec', '-i', 'web', '--', 'head', '-n', '1']);
    running.child.stdin?.write('first\nsecond\n');
    expect(await running.ended).toBe(0);
    expect(running.stdout().toString()).toBe('first\n');
  });

  it('passes each line at once, so input and output can take turns', async () => {
    const running = start(['exec', '-i', 'web', '--', 'sh', '-c', 'while read line; do echo "got $line"; done']);
    for (const word of ['one', 'two']) {
      running.child.stdin?.write(`${word}\n`);
      await eventually('the answer comes', async () => running.stdout().toString().endsWith(`got ${word}\n`));
    }
    running.child.stdin?.end();
    expect(await running.ended).toBe(0);
  });

  it('is needed for input: without -i a command reads nothing', async () => {
    expect((await give('hello', 'exec', 'web', '--', 'cat')).stdout.toString()).toBe('');
  });

  it('cancels the command on Ctrl-C, and prints that', async () => {
    const running = start(['exec', '-i', 'web', '--', 'sh', '-c', 'echo begun; cat']);
    await eventually('it has begun', async () => running.stdout().length > 0);
    running.child.kill('SIGINT');
    expect(await running.ended).toBe(130);
    expect(running.stderr()).toContain('canceled the command in the box');
    expect((await newest())?.status).toBe('canceled');
  });

  it('reports that its own input cannot be read, and ends the command', async () => {
    const directory = openSync('/', 'r');
    const running = start(['exec', '-i', 'web', '--', 'cat'], directory);
    closeSync(directory);
    expect(await running.ended).toBe(1);
    expect(running.stderr()).toMatch(/^Error: \[RUNTIME_ERROR\] .*standard input cannot be read: EISDIR/);
    expect((await newest())?.status).toBe('canceled');
  });

  it('fails with UNAVAILABLE when the gateway dies during the input', async () => {
    const running = start(['exec', '-i', 'web', '--', 'sh', '-c', 'echo begun; cat']);
    await eventually('it has begun', async () => running.stdout().length > 0);
    process.kill((await processOf(server.stateDir, 'gateway')).pid, 'SIGKILL');
    expect(await running.ended).toBe(1);
    expect(running.stderr()).toMatch(
      /^Error: \[UNAVAILABLE\] the input of the command was lost: .*\nHint: the command /,
    );
  });
});

it('boxrun exec -t gives a command a terminal, even if the caller has none', async () => {
  await eventually('the gateway is back', async () =>
    server.client.info().then(
      () => true,
      () => false,
    ),
  );
  const result = await give('ignored', 'exec', '-t', 'web', '--', 'sh', '-c', '[ -t 1 ] && stty size; id -u');
  expect({ code: result.code, stdout: result.stdout.toString() }).toEqual({ code: 0, stdout: '24 80\r\n0\r\n' });
  expect((await give('', 'exec', '-u', '1234', '-w', '/', 'web', '--', 'id', '-u')).stdout.toString()).toBe('1234\n');
});

describe('boxrun events', () => {
  async function watch(...args: string[]): Promise<Running & { lines: () => string[] }> {
    const running = start(['events', ...args]);
    return { ...running, lines: () => running.stdout().toString().split('\n').slice(0, -1) };
  }

  it('prints one line of JSON for each change, and ends without a message on Ctrl-C', async () => {
    const running = await watch('--json');
    await eventually('it is ready', async () => running.lines().length === 1);
    const exec = await server.client.startExec('web', ['sh', '-c', 'exit 3']);
    await eventually('the end of the command is printed', async () =>
      running.lines().some((line) => line.includes('exec.finished')),
    );
    running.child.kill('SIGINT');
    expect([await running.ended, running.stderr()]).toEqual([130, '']);
    const events = running.lines().map((line) => JSON.parse(line) as { type: string; id: string; exec?: object });
    expect(events.map(({ type }) => type)).toEqual(['ready', 'exec.started', 'exec.finished']);
    expect(events[2]?.exec).toMatchObject({ id: exec.id, exit_code: 3 });
    const later = await watch('--json', '--since', events[1]?.id ?? '');
    await eventually('the next event is printed', async () => later.lines().length > 0);
    expect(later.lines()[0]).toBe(running.lines()[2]);
  });

  it('prints readable lines, and ends without a message when its output is closed', async () => {
    const running = await watch();
    await eventually('a change is printed', async () => {
      await server.client.startExec('web', ['sh', '-c', 'exit 3']);
      return running.lines().some((line) => line.includes('exec.finished'));
    });
    const { id } = await server.client.getBox('web');
    expect(running.lines().join('\n')).toMatch(
      new RegExp(`^\\d{4}-\\S+Z  exec\\.finished  exec_\\S+  ${id}  failed \\(3\\)  sh -c 'exit 3'$`, 'm'),
    );
    running.child.stdout?.destroy();
    const ended = { isOver: false };
    void running.ended.then(() => {
      ended.isOver = true;
    });
    await eventually('it ends', async () => {
      if (!ended.isOver) await server.client.startExec('web', ['true']);
      return ended.isOver;
    });
    expect([running.child.exitCode, running.stderr()]).toEqual([141, '']);
  });

  it('connects again after the gateway has died', async () => {
    const running = await watch('--json');
    await eventually('it is ready', async () => running.lines().length === 1);
    process.kill((await processOf(server.stateDir, 'gateway')).pid, 'SIGKILL');
    await eventually('it reports the lost connection', async () =>
      running.stderr().includes('the connection was lost'),
    );
    await eventually('the server is back', async () =>
      server.client.startExec('web', ['true']).then(
        () => true,
        () => false,
      ),
    );
    await eventually('it prints events again', async () =>
      running.lines().some((line) => line.includes('exec.finished')),
    );
    running.child.kill('SIGINT');
    expect(await running.ended).toBe(130);
  });
});
