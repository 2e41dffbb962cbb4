// Tests commands that a client runs for its own work, such as those of `boxrun cp`: lists, logs and state events do not
// show them. Also tests that the stream of an ended command ends at once for a client that has had its exit.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BoxRun, type StateEvent } from '../../src/sdk/index.ts';
import { eventually } from '../support/runs/eventually.ts';
import { cliBundle, parseSse, startServer, type TestServer } from '../support/servers/server.ts';

const run = promisify(execFile);
let server: TestServer;
let directory: string;

beforeAll(async () => {
  server = await startServer();
  directory = await mkdtemp(join(tmpdir(), 'boxrun-internal-'));
  await mkdir(join(directory, 'site'));
  await writeFile(join(directory, 'site/index.html'), 'hello\n');
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 64 });
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
  await server.close();
});

const boxrun = (...args: string[]) =>
  run(process.execPath, ['--', cliBundle, ...args], { env: server.env, cwd: directory });

it('a copy leaves no command in execs, logs and events', async () => {
  const watching = new AbortController();
  const seen: StateEvent[] = [];
  const ended = (async () => {
    for await (const event of server.client.events({ signal: watching.signal })) seen.push(event);
  })().catch(() => undefined);
  await eventually('the events are watched', async () => seen.length > 0);
  await boxrun('exec', 'web', 'echo', 'mine');
  await boxrun('cp', 'site', 'web:/srv');
  await boxrun('cp', 'web:/srv', 'back');
  expect(await readFile(join(directory, 'back/index.html'), 'utf8')).toBe('hello\n');
  expect((await server.client.listExecs('web')).map(({ cmd }) => cmd)).toEqual([['echo', 'mine']]);
  expect((await server.client.pageOfExecs('web', { limit: 1 })).nextCursor).toBeNull();
  expect((await boxrun('logs', 'web')).stdout).toBe('mine\n');
  const last = await server.client.startExec('web', ['echo', 'last']);
  const hasFinished = ({ type, exec }: { readonly type: string; readonly exec?: { readonly id: string } }) =>
    type === 'exec.finished' && exec?.id === last.id;
  await eventually('the last command is in the events', async () => seen.some(hasFinished));
  watching.abort();
  await ended;
  const commands = seen.flatMap((event) => ('exec' in event ? [event.exec.cmd.join(' ')] : []));
  expect(commands).toEqual(['echo mine', 'echo mine', 'echo last', 'echo last']);
});

it('an internal command is found by its id, with its output, and its mark must be a boolean', async () => {
  const exec = await server.client.startExec('web', { cmd: ['sh', '-c', 'echo out; exit 3'], internal: true });
  expect(await server.client.getExec('web', exec.id, { waitS: 10 })).toMatchObject({ status: 'failed', exit_code: 3 });
  const texts: string[] = [];
  for await (const event of server.client.execEvents(exec)) if (event.type === 'log') texts.push(event.text);
  expect(texts.join('')).toBe('out\n');
  expect((await server.client.listExecs('web')).some(({ id }) => id === exec.id)).toBe(false);
  await expect(
    server.client.startExec('web', { cmd: ['true'], internal: 'yes' as unknown as boolean }),
  ).rejects.toMatchObject({ code: 'VALIDATION_ERROR' });
});

it('a stream that is resumed after the exit event ends at once, for the SDK and for plain HTTP', async () => {
  const exec = await server.client.startExec('web', ['echo', 'done']);
  let last = -1;
  for await (const { seq } of server.client.execEvents(exec)) last = seq;
  const from = performance.now();
  const client = new BoxRun({ socketPath: join(server.stateDir, 'boxrun.sock') });
  for (const after of [last, last + 7])
    for await (const event of client.execEvents(exec, { after })) throw new Error(event.type);
  await client.close();
  expect(performance.now() - from).toBeLessThan(10_000);
  const path = `/v1/boxes/web/exec/${exec.id}/events`;
  const events = async (query: string) =>
    parseSse((await server.call({ path: `${path}?${query}` })).text).map(({ event }) => event);
  expect(await events(`after=${last}`)).toEqual(['end']);
  expect(await events(`after=${last - 1}`)).toEqual(['exit']);
});

it('ps shows for each process of the server to which state directory it belongs', async () => {
  const { stdout } = await run('ps', ['-ww', '-A', '-o', 'args']);
  const own = stdout.split('\n').filter((line) => line.startsWith('boxrun ') && line.endsWith(` ${server.stateDir}`));
  const roles = new Set(own.map((line) => line.split(' ')[1]));
  expect([...roles].sort()).toEqual(['gateway', 'keeper', 'supervisor', 'worker', 'writer']);
});
