// Tests the stop of a real box whose processes do not die: the stop thaws frozen commands, and the log says why a
// process stays.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import { boxHome, statePaths } from '../../src/shared/settings/state-dir.ts';
import { eventually } from '../support/runs/eventually.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

const create = () => server.client.create({ image: 'base', cpu: 1, memory_mb: 64, stop_grace_s: 0 });
const initOf = (box: string) =>
  (
    JSON.parse(readFileSync(join(boxHome(server.stateDir, box), 'run/state.json'), 'utf8')) as {
      init: { pid: number };
    }
  ).init.pid;

/** Finds the file of the control group that freezes this process, and the value that freezes it. */
function freezerOf(pid: number): { file: string; frozen: string } {
  const groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n');
  const legacy = groups.find((line) => line.includes(':freezer:'))?.split(':freezer:')[1];
  if (legacy !== undefined) return { file: `/sys/fs/cgroup/freezer${legacy}/freezer.state`, frozen: 'FROZEN' };
  const unified = groups.find((line) => line.startsWith('0::'))?.slice(3) ?? '';
  return { file: `/sys/fs/cgroup${unified}/cgroup.freeze`, frozen: '1' };
}

it('a stop of a box with a frozen command succeeds within the time for kills', async () => {
  const box = await create();
  await server.client.startExec(box.id, ['sleep', '1000']);
  const sleeper = await eventually('the command runs', async () =>
    readdirSync('/proc').find((name) => {
      const file = `/proc/${name}/cmdline`;
      if (!/^\d+$/.test(name) || !existsSync(file)) return false;
      return (
        readFileSync(file, 'utf8') === 'sleep\x001000\0' &&
        readFileSync(`/proc/${name}/cgroup`, 'utf8').includes(box.id)
      );
    }),
  );
  const { file, frozen } = freezerOf(Number(sleeper));
  writeFileSync(file, frozen);
  const startedAt = performance.now();
  expect((await server.client.stopBox(box.id)).status).toBe('stopped');
  expect(performance.now() - startedAt).toBeLessThan(limits.killTimeoutMs);
});

it('the log of a stop that hangs names the process, its state, its control group and its unreaped child', async () => {
  const box = await create();
  const init = initOf(box.id);
  // Puts a process into the box whose parent is outside and frozen, so no process reaps it after its death. The init of
  // the box cannot die before that.
  const parent = spawn('nsenter', ['--target', String(init), '--pid', 'sleep', '1000'], { stdio: 'ignore' });
  onTestFinished(() => {
    parent.kill('SIGKILL');
  });
  await eventually('it has a child in the box', async () => {
    const children = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8').trim();
    return children !== '' && readFileSync(`/proc/${children}/comm`, 'utf8') === 'sleep\n';
  });
  parent.kill('SIGSTOP');
  const stopping = server.client.stopBox(box.id);
  const logs = () =>
    ['workers.log', 'supervisor.log']
      .map((name) => readFileSync(join(statePaths(server.stateDir).logsDir, name), 'utf8'))
      .join('');
  await eventually('the log names the process', async () => logs().includes('did not die within'), 40_000);
  parent.kill('SIGCONT');
  expect((await stopping).status).toBe('stopped');
  const [line] = logs()
    .split('\n')
    .filter((each) => each.includes('did not die within'));
  expect(line).toContain(
    `process ${init}, the first process of the box, did not die within ${limits.killTimeoutMs} ms`,
  );
  expect(line).toMatch(/state [SD] \(.*\), name \S+, parent \d+ \(\S+, \w\), wchan \w+, control group [^,]*\/\S+/);
  expect(line).toContain(`(sleep) of parent ${parent.pid} (nsenter, T)`);
});
