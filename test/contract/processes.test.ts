// Tests the processes of a box on a real server: what the list says of them, and signals to one of them.
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box, BoxProcess } from '../../src/sdk/index.ts';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let box: Box;
const small = { image: 'base', cpu: 1, memory_mb: 128 };

beforeAll(async () => {
  server = await startServer();
  box = await server.client.create(small);
});
afterAll(async () => {
  await server.close();
});

/** The process whose words are `command`, when it is there. */
const find = async (command: string): Promise<BoxProcess> =>
  eventually(`${command} runs`, async () =>
    (await server.client.processes(box.id)).find((each) => each.command === command),
  );

it('the list names pid, parent, user, state, use, age, words and command, and nothing of BoxRun itself', async () => {
  const exec = await server.client.startExec(box.id, {
    cmd: ['sh', '-c', 'sleep 987 & while :; do :; done', 'a b'],
    user: 'nobody',
  });
  const child = await find('sleep 987');
  const shell = await eventually('the shell has used CPU time', async () => {
    const found = (await server.client.processes(box.id)).find(({ pid }) => pid === child.ppid);
    return found !== undefined && found.cpu_seconds > 0.2 ? found : undefined;
  });
  expect(child).toMatchObject({ user: 'nobody', uid: 65534, state: 'S', exec_id: exec.id, cpu_seconds: 0 });
  expect(shell).toMatchObject({ user: 'nobody', state: 'R', exec_id: exec.id });
  expect(shell.command).toBe('sh -c sleep 987 & while :; do :; done a b');
  expect(child.memory_bytes).toBeGreaterThan(0);
  expect(child.age_seconds).toBeLessThan(60);
  const all = await server.client.processes(box.id);
  expect(all.map(({ pid }) => pid).sort()).toEqual([child.ppid, child.pid].sort());
  const seen = await server.client.exec(box.id, ['cat', `/proc/${child.pid}/comm`]);
  expect(seen.stdout).toBe('sleep\n');
  await server.client.cancelExec(box.id, exec.id);
});

it('odd names and words of processes change no other line of the list', async () => {
  const name = '/tmp/1 (x) S 1\n9 (fa) S 0';
  const words = '--\n/proc/1/status:Uid: 7 7\n 654';
  const exec = await server.client.startExec(box.id, {
    cmd: ['sh', '-c', 'printf "#!/bin/sh\nread wait\n" > "$0"; chmod +x "$0"; exec "$0" "$1"', name, words],
    stdin: true,
  });
  const command = `/bin/sh ${name} ${words}`;
  await find(command);
  const processes = await server.client.processes(box.id);
  expect(processes).toHaveLength(1);
  expect(processes[0]).toMatchObject({ exec_id: exec.id, uid: 0, user: 'root', state: 'S', command });
  await server.client.cancelExec(box.id, exec.id);
});

it('a signal reaches one process', async () => {
  const exec = await server.client.startExec(box.id, {
    cmd: ['sh', '-c', 'sleep 555 & wait $!; echo "it ended with $?"'],
  });
  const { pid } = await find('sleep 555');
  await server.client.signalProcess(box.id, pid, 'TERM');
  const ended = await server.client.getExec(box.id, exec.id, { waitS: 30 });
  expect(ended).toMatchObject({ status: 'succeeded', exit_code: 0 });
  const { text } = await server.call({ path: `/v1/boxes/${box.id}/exec/${exec.id}/events?follow=false` });
  expect(text).toContain('it ended with 143');
});

it.each([
  ['4194304', 'TERM', 'no process 4194304'],
  ['1', 'KILL', 'BoxRun'],
  ['0', 'KILL', "'0' is not the pid"],
  ['-1', 'KILL', "'-1' is not the pid"],
  ['7', 'NOPE', "no signal 'NOPE'"],
])('a signal to %s, %s, is refused, and the box goes on', async (pid, signal, message) => {
  const answer = await server.call({
    method: 'POST',
    path: `/v1/boxes/${box.id}/processes/${pid}:signal`,
    body: { signal },
  });
  expect(answer).toMatchObject({
    status: 422,
    json: { code: 'VALIDATION_ERROR', message: expect.stringContaining(message) as string },
  });
  expect((await server.client.exec(box.id, ['echo', 'alive'])).stdout).toBe('alive\n');
});

it('a list of a thousand processes is complete', async () => {
  const own = await server.client.create({ ...small, memory_mb: 512 });
  const exec = await server.client.startExec(own.id, {
    cmd: ['sh', '-c', 'for n in $(seq 1000); do sleep 777 & done; wait'],
  });
  await eventually('all run', async () => {
    const found = await server.client.processes(own.id);
    return found.filter(({ command }) => command === 'sleep 777').length === 1_000;
  });
  await server.client.cancelExec(own.id, exec.id);
  await server.client.removeBox(own.id, { force: true });
});

it('a box that does not run has no list', async () => {
  const own = await server.client.create(small);
  await server.client.stopBox(own.id);
  await expect(server.client.processes(own.id)).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
  await expect(server.client.signalProcess(own.id, 5, 'TERM')).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
  await expect(server.client.processes('nobody')).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
  await server.client.removeBox(own.id);
});
