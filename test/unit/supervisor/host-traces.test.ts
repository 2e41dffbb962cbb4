// Tests how reconciliation finds boxes on the host: by their homes, and by processes that name the home for which they
// work. Control groups, mounts and loop devices need a real server: see test/crash/reconciliation.test.ts.
import { spawn } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { makeMarkedHome, ownerOf } from '../../../src/shared/host/host-marks.ts';
import { findTraces } from '../../../src/supervisor/recovery/host-traces.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

const boxId = 'box_abcdefghijkl';
const instanceId = 'inst_abcdefghijkl';

function start(
  program: string,
  args: readonly string[],
  options: { argv0?: string; env?: Record<string, string> } = {},
): number {
  const child = spawn(program, args, { stdio: 'ignore', ...options });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child.pid ?? 0;
}

async function processesSeen(boxesDir: string): Promise<string[]> {
  const { traces } = await findTraces({ boxesDir, instanceId });
  return traces
    .filter(({ kind }) => kind === 'process')
    .map((trace) => `${trace.boxId} ${trace.what}`)
    .sort();
}

it('reconciliation finds the homes that have the name of a box, and the owners that are written in them', async () => {
  const boxesDir = temporaryDirectory();
  makeMarkedHome(join(boxesDir, boxId), { instanceId, driver: 'boxlite' });
  mkdirSync(join(boxesDir, 'box_mnopqrstuvwx'));
  mkdirSync(join(boxesDir, 'something-else'));
  const { traces, owners } = await findTraces({ boxesDir, instanceId });
  expect(traces.map(({ kind, what }) => `${kind} ${what}`).sort()).toEqual([
    `home ${boxesDir}/${boxId}`,
    `home ${boxesDir}/box_mnopqrstuvwx`,
  ]);
  expect([...owners]).toEqual([[boxId, { instanceId, driver: 'boxlite' }]]);
});

it('reconciliation finds no owner if the mark in the home cannot be read', async () => {
  const home = temporaryDirectory();
  for (const text of [
    '',
    '{',
    'null',
    '{"instanceId":1,"driver":"container"}',
    '{"instanceId":"inst_1","driver":"other"}',
  ]) {
    writeFileSync(join(home, 'owner.json'), text);
    expect(await ownerOf(home)).toBeNull();
  }
});

it('reconciliation finds processes with the home in their environment, and the processes of a VM', async () => {
  const boxesDir = temporaryDirectory();
  const home = join(boxesDir, boxId);
  const marked = start('sleep', ['1000'], { env: { BOXRUN_BOX_HOME: home } });
  const parts = ['/opt/bwrap', 'boxlite-shim'].map((argv0) =>
    start('sh', ['-c', 'sleep 1000; :', join(home, 'boxes', 'engine')], { argv0 }),
  );
  start('sh', ['-c', 'sleep 1000; :', join(home, 'boxes', 'engine')]); // Only its argument is the path.
  start('sleep', ['1000'], { env: { BOXRUN_BOX_HOME: `${boxesDir}-of-another/${boxId}` } });
  const expected = [marked, ...parts].map((pid) => `${boxId} ${pid}`).sort();
  await eventually('all are seen', async () => (await processesSeen(boxesDir)).length === expected.length);
  expect(await processesSeen(boxesDir)).toEqual(expected);
});

it('reconciliation finds processes through a link in the path of the state directory', async () => {
  const real = temporaryDirectory();
  const link = join(temporaryDirectory(), 'boxes');
  symlinkSync(real, link);
  const pids = [real, link].map((dir) => start('sleep', ['1000'], { env: { BOXRUN_BOX_HOME: join(dir, boxId) } }));
  const expected = pids.map((pid) => `${boxId} ${pid}`).sort();
  await eventually('both are seen', async () => (await processesSeen(link)).length === 2);
  expect(await processesSeen(link)).toEqual(expected);
});
