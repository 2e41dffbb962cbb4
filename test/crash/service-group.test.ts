// Tests a real server in a control group that is ended as systemd ends a service: by a signal to each of its processes.
// Boxes, workers and the writer are in another group. They run on, and the next server adopts them.
import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, expect, it } from 'vitest';
import {
  collect,
  counted,
  counting,
  expectSameText,
  startCrashServer,
  type CrashServer,
} from '../support/servers/crash-server.ts';
import { markedProcesses } from '../support/host/host-state.ts';
import { makeGroup, version2, type OwnGroup } from '../support/host/own-group.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf, processOf } from '../support/host/processes.ts';
import { cliBundle } from '../support/servers/server.ts';

let server: CrashServer | null = null;
const groups: OwnGroup[] = [];

function newGroup(): OwnGroup {
  const group = makeGroup();
  groups.push(group);
  return group;
}
const startInNewGroup = (workers: string) =>
  startCrashServer({ args: ['--workers', workers], launcher: () => newGroup().launcher });

afterEach(async () => {
  await server?.close();
  server = null;
  for (const group of groups.splice(0)) await group.remove();
});

it.each([
  ['in order', 5_000],
  ['at once', 0],
])('a box and its commands run on when the control group of the server is ended %s', async (_how, graceMs) => {
  server = await startInNewGroup('1');
  const [first] = groups;
  const { client, stateDir } = server;
  const box = await client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 128, network: true });
  const exec = await client.startExec(box.id, { cmd: counting(4_000) });
  const followed = collect(client, exec);
  const writer = await processOf(stateDir, 'writer');
  const worker = await processOf(stateDir, 'worker', box.id);
  const members = first?.pids() ?? [];
  const apart = [writer.pid, worker.pid, ...markedProcesses(stateDir).keys()];
  expect(apart.filter((pid) => members.includes(pid))).toEqual([]);

  await first?.endLikeSystemd(graceMs);
  expect((await processesOf(stateDir)).map(({ role }) => role)).not.toContain('keeper');
  await server.serve();

  expect(await client.getBox('web')).toMatchObject({ status: 'running', error_message: null });
  const { stdout, exit } = await followed;
  expectSameText(stdout, counted(4_000));
  expect(exit.exitCode).toBe(0);
  expect((await processOf(stateDir, 'writer')).pid).toBe(writer.pid);
  expect((await processOf(stateDir, 'worker', box.id)).pid).toBe(worker.pid);
  const after = await collect(client, await client.startExec(box.id, { cmd: ['echo', 'served'] }));
  expect(after.stdout).toBe('served\n');
});

it('the keeper starts no process again while the control group is ended in order', async () => {
  server = await startInNewGroup('0');
  const [first] = groups;
  for (const pid of first?.pids() ?? []) process.kill(pid, 'SIGTERM');
  await eventually('the server has ended', async () => (await processesOf(server?.stateDir ?? '')).length === 0);
  const log = await readFile(join(server.stateDir, 'logs', 'keeper.log'), 'utf8');
  expect(log).not.toContain('it is started again');
  await server.serve();
});

// Only version 2 of control groups can forbid new groups below a group.
it.skipIf(version2 === undefined)(
  'serve and doctor warn when boxes cannot leave the control group of the server',
  async () => {
    const launcher = () => {
      const group = newGroup();
      writeFileSync(join(version2 ?? '', group.path, '..', 'cgroup.max.descendants'), '1');
      return group.launcher;
    };
    server = await startCrashServer({ args: ['--workers', '0'], launcher });
    expect(server.said()).toContain('boxes are in the control group of the server');
    expect(server.said()).toContain('Hint: set KillMode=process in the unit');

    const [program = '', ...args] = [...launcher(), process.execPath, cliBundle, 'doctor', '--driver', 'container'];
    const { stdout } = await promisify(execFile)(program, args, {
      env: { ...process.env, BOXRUN_STATE_DIR: server.stateDir },
    });
    expect(stdout).toMatch(/boxes stay in the control group of the server.*\n.*\n.*KillMode=process/);
  },
);
