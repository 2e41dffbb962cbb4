// Tests the stop of boxes on a real server: the processes get a signal and have time to end by themselves. Output in
// that time is part of the output of the command.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { openSocket } from '../support/servers/web-socket.ts';

let server: TestServer;
const small = { image: 'base', cpu: 1, memory_mb: 128 };
const polite = 'trap "echo asked; sleep 0.3; echo bye; exit 3" TERM; echo up; while :; do sleep 0.1; done';
const stubborn = 'trap "" TERM; echo up; while :; do sleep 0.1; done';

beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

/** Starts a command, and waits until it has printed `up`. */
async function begin(box: string, script: string, more: { tty?: boolean } = {}) {
  const exec = await server.client.startExec(box, { cmd: ['sh', '-c', script], ...more });
  await eventually('it is up', async () =>
    (await server.call({ path: `/v1/boxes/${box}/exec/${exec.id}/events?follow=false` })).text.includes('up'),
  );
  return { exec, ended: collect(server.client, exec) };
}

describe.each(['the OCI runtime', 'the agent'])('the stop of a box with commands started by %s', (path) => {
  it('lets a command end by itself, and keeps its last output', async () => {
    const box = await server.client.create(small);
    // The first command starts the agent, if the host has one.
    if (path.includes('agent')) for (let round = 0; round < 3; round += 1) await server.client.exec(box.id, ['true']);
    const { exec, ended } = await begin(box.id, polite);
    await server.client.stopBox(box.id);
    expect(await ended).toMatchObject({
      stdout: 'up\nasked\nbye\n',
      exit: { exitCode: 3, error: 'the box was stopped' },
    });
    expect(await server.client.getExec(box.id, exec.id)).toMatchObject({ status: 'failed', exit_code: 3 });
    await server.client.removeBox(box.id);
  });

  it('kills a command that does not end within the grace of the caller', async () => {
    const box = await server.client.create(small);
    if (path.includes('agent')) for (let round = 0; round < 3; round += 1) await server.client.exec(box.id, ['true']);
    const { ended } = await begin(box.id, stubborn);
    const startedAt = performance.now();
    const stopped = await server.client.stopBox(box.id, { graceS: 1.5 });
    expect(performance.now() - startedAt).toBeGreaterThan(1_500);
    expect(stopped.status).toBe('stopped');
    expect((await ended).exit).toMatchObject({ exitCode: 137, error: 'the box was stopped' });
    await server.client.startBox(box.id);
    const again = await begin(box.id, stubborn);
    await server.client.stopBox(box.id, { graceS: 0 });
    expect((await again.ended).exit.exitCode).toBe(137);
    await server.client.removeBox(box.id);
  });
});

it('a stop sends SIGHUP to terminals, because shells ignore SIGTERM', async () => {
  const box = await server.client.create(small);
  const { ended } = await begin(
    box.id,
    'trap "" TERM; trap "echo hung up; exit 5" HUP; echo up; while :; do sleep 0.1; done',
    { tty: true },
  );
  const shells = [];
  for (const typed of [
    '',
    'trap "" TERM; trap "echo left > /root/left; exit 6" HUP; echo u""p; while :; do sleep 0.1; done\n',
  ]) {
    const shell = await openSocket(`ws+unix:${server.socketPath}:/v1/boxes/${box.id}/attach`);
    shell.type('echo u""p\n');
    await shell.until(/up\r\n/);
    shell.type(typed);
    if (typed !== '') await shell.until(/up\r\n/);
    shells.push(shell);
  }
  const startedAt = performance.now();
  await server.client.stopBox(box.id, { graceS: 60 });
  expect(performance.now() - startedAt).toBeLessThan(30_000);
  const { stdout, exit } = await ended;
  expect(stdout).toContain('hung up\r\n');
  expect(exit.exitCode).toBe(5);
  for (const shell of shells) await shell.closed;
  await server.client.startBox(box.id);
  expect((await server.client.exec(box.id, ['cat', '/root/left'])).stdout).toBe('left\n');
  await server.client.removeBox(box.id, { force: true });
});

it('a stop sends SIGTERM to children, to processes in other process groups, and to stopped processes', async () => {
  const box = await server.client.create(small);
  const child = (name: string) => `sh -c 'trap "echo ${name} >> /root/asked; exit" TERM; while :; do sleep 0.1; done'`;
  await begin(
    box.id,
    `${child('child')} & setsid ${child('session')} & ${child('stopped')} & sleep 0.5; kill -STOP $!; echo up; sleep 600`,
  );
  await server.client.stopBox(box.id, { graceS: 20 });
  await server.client.startBox(box.id);
  const { stdout } = await server.client.exec(box.id, ['sort', '/root/asked']);
  expect(stdout).toBe('child\nsession\nstopped\n');
  await server.client.removeBox(box.id, { force: true });
});

it('a removal by force gives the processes one second, or the grace of the caller', async () => {
  const box = await server.client.create(small);
  const { ended } = await begin(box.id, polite);
  await server.client.removeBox(box.id, { force: true });
  expect((await ended).stdout).toBe('up\nasked\nbye\n');
  const other = await server.client.create(small);
  const slow = await begin(other.id, stubborn);
  const startedAt = performance.now();
  const answer = await server.call({ method: 'DELETE', path: `/v1/boxes/${other.id}?force=true&grace_s=2.5` });
  expect(answer.status).toBe(200);
  expect(performance.now() - startedAt).toBeGreaterThan(2_500);
  expect((await slow.ended).exit.exitCode).toBe(137);
});

it.each([{ grace_s: -1 }, { grace_s: 601 }, { grace_s: 'soon' }])(
  'a stop or removal with an invalid grace is refused: %j',
  async (body) => {
    const box = await server.client.create(small);
    const answer = await server.call({ method: 'POST', path: `/v1/boxes/${box.id}:stop`, body });
    expect(answer).toMatchObject({
      status: 422,
      json: { code: 'VALIDATION_ERROR', message: expect.stringContaining('grace_s') as string },
    });
    const removal = await server.call({
      method: 'DELETE',
      path: `/v1/boxes/${box.id}?force=true&grace_s=${body.grace_s}`,
    });
    expect(removal.status).toBe(422);
    expect((await server.client.getBox(box.id)).status).toBe('running');
    await server.client.removeBox(box.id, { force: true });
  },
);

it('commands can end by themselves when a server with --on-exit stop ends', async () => {
  const own = await startServer({ args: ['--on-exit', 'stop'] });
  const box = await own.client.create(small);
  const exec = await own.client.startExec(box.id, { cmd: ['sh', '-c', polite] });
  await eventually('it is up', async () =>
    (await own.call({ path: `/v1/boxes/${box.id}/exec/${exec.id}/events?follow=false` })).text.includes('up'),
  );
  await own.stop();
  await eventually('the writer is gone', async () => (await processesOf(own.stateDir)).length === 0);
  await own.start();
  expect(await own.client.getBox(box.id)).toMatchObject({ status: 'stopped' });
  expect(await collect(own.client, exec)).toMatchObject({ stdout: 'up\nasked\nbye\n', exit: { exitCode: 3 } });
  await own.close();
});
