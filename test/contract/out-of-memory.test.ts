// Tests commands that the kernel kills for lack of memory, on a real server: what the API, the exit event and the
// command line report. The OCI runtime starts the first command of a box, and the agent starts later ones.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ExitEvent } from '../../src/sdk/event-stream.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

/** A script that uses more and more memory until the kernel kills it. */
const hog = 'x=0123456789abcdef; while :; do x=$x$x; done';
const child = `sh -c '${hog}'`;
const limit = 'the box has 64 MiB';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

const newBox = () => server.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
const ended = async (box: string, cmd: readonly string[], rest: object = {}) => {
  const exec = await server.client.startExec(box, { cmd: [...cmd], ...rest });
  let exit: ExitEvent | null = null;
  for await (const event of server.client.execEvents(exec)) if (event.type === 'exit') exit = event;
  return { exec: await server.client.getExec(box, exec.id), exit };
};

describe.each([
  ['started by the OCI runtime', {}, false],
  ['started by the agent', {}, true],
  ['in a terminal', { tty: true }, true],
] as const)('a command %s', (_way, rest, isLater) => {
  it.each([
    ['itself', ['sh', '-c', hog]],
    ['through a child', ['sh', '-c', `${child}; exit $?`]],
  ])('reports "out of memory" and the limit when it uses too much memory %s', async (_who, cmd) => {
    const box = await newBox();
    if (isLater) await ended(box.id, ['true']);
    const { exec, exit } = await ended(box.id, cmd, rest);
    const message = `out of memory: the kernel killed it; ${limit}`;
    expect(exec).toMatchObject({ status: 'failed', exit_code: 137, error_message: message });
    expect(exit).toMatchObject({ exitCode: 137, error: message });
  });

  it('reports the kill of a child as its error if it fails, and as a warning if it succeeds', async () => {
    const box = await newBox();
    if (isLater) await ended(box.id, ['true']);
    const message = `out of memory: while it ran, the kernel killed 1 of the processes of its box; ${limit}`;
    const failed = await ended(box.id, ['sh', '-c', `${child} || exit 3`], rest);
    expect(failed.exec).toMatchObject({ status: 'failed', exit_code: 3, error_message: message });
    const fine = await ended(box.id, ['sh', '-c', `${child} || true`], rest);
    expect(fine.exec).toMatchObject({ status: 'succeeded', exit_code: 0, error_message: null });
    expect(fine.exit).toMatchObject({ exitCode: 0, error: null, warning: message });
  });
});

it('a command that another signal kills, or that fails later, does not report "out of memory"', async () => {
  const box = await newBox();
  await ended(box.id, ['sh', '-c', hog]);
  for (const cmd of [['sh', '-c', 'kill -9 $$'], ['false']]) {
    const { exec } = await ended(box.id, cmd);
    expect(exec).toMatchObject({ status: 'failed', error_message: null });
  }
});

it('boxrun exec and run print "out of memory" on stderr and return the exit code', async () => {
  const box = await newBox();
  const cli = (...args: string[]) => promisify(execFile)(process.execPath, [cliBundle, ...args], { env: server.env });
  const killed = {
    code: 137,
    stderr: expect.stringContaining(`boxrun: out of memory: the kernel killed it; ${limit}`) as string,
  };
  await expect(cli('exec', box.id, '--', 'sh', '-c', hog)).rejects.toMatchObject(killed);
  await expect(cli('run', 'base', '--cpu', '1', '-m', '64', '--', 'sh', '-c', hog)).rejects.toMatchObject(killed);
  const fine = await cli('exec', box.id, '--', 'sh', '-c', `${child} || true`);
  expect(fine.stderr).toContain('boxrun: out of memory: while it ran');
  const answer = await server.client.run({ image: 'base', cpu: 1, memory_mb: 64, cmd: ['sh', '-c', hog] });
  expect(answer).toMatchObject({ exit_code: 137, error_message: `out of memory: the kernel killed it; ${limit}` });
});

describe('the usage of a command', () => {
  it('has its CPU time, its peak memory, and what the box had to do without', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128, cpu_limit: 0.2 });
    await ended(box.id, ['true']); // The first command may come before the agent.
    const busy = 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done';
    // tail keeps all of its input, because it is one line.
    const { exec } = await ended(box.id, ['sh', '-c', `${busy}; head -c 30000000 /dev/zero | tail -n 1 >/dev/null`]);
    expect(exec.usage).toMatchObject({ oom_kills: 0 });
    expect(exec.usage?.cpu_seconds).toBeGreaterThan(0.05);
    expect(exec.usage?.cpu_seconds).toBeLessThan(30);
    expect(exec.usage?.peak_memory_bytes).toBeGreaterThan(28_000_000);
    expect(exec.usage?.peak_memory_bytes).toBeLessThan(128 * 1024 * 1024);
    expect(exec.usage?.throttled_seconds).toBeGreaterThan(0.01);
    const killed = await ended(box.id, ['sh', '-c', hog]);
    expect(killed.exec.usage).toMatchObject({ oom_kills: 1 });
  });

  it('is null while the command runs, and is in lists', async () => {
    const box = await newBox();
    const running = await server.client.startExec(box.id, { cmd: ['sleep', '1000'] });
    expect((await server.client.getExec(box.id, running.id)).usage).toBeNull();
    await server.client.cancelExec(box.id, running.id);
    const [listed] = await server.client.listExecs(box.id);
    expect(listed).toMatchObject({ id: running.id, usage: { oom_kills: 0 } });
  });
});
