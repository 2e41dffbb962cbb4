// Tests the migration of a database of another edition, with a real server whose writer or keeper is killed at each
// step. The keeper starts a new writer, or the next serve does. Afterwards every row is there once.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { FaultPoint } from '../../src/shared/faults/fault-points.ts';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { expectIntegrity } from '../support/host/host-state.ts';
import { writeOtherEdition } from '../support/api/other-edition.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf, processOf } from '../support/host/processes.ts';
import { copyPreparedState } from '../support/servers/prepared-state.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-crash-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

const points: readonly FaultPoint[] = [
  'writer.migration.backed-up',
  'writer.migration.uncommitted',
  'writer.migration.committed',
];

it.each(points.flatMap((point) => (['writer', 'keeper'] as const).map((role) => ({ point, role }))))(
  'a migration loses no row when the $role is killed at $point',
  async ({ point, role }) => {
    const faultDir = join(directory, 'faults');
    const stateDir = join(directory, 'state');
    for (const made of [faultDir, stateDir]) mkdirSync(made);
    await copyPreparedState(stateDir);
    writeOtherEdition(join(stateDir, 'boxrun.db'));
    writeFileSync(join(faultDir, `${point}.armed`), '');
    const options = { stateDir, args: ['--workers', '0'], env: { BOXRUN_FAULT_DIR: faultDir } };
    const first = startCrashServer(options).catch(() => null);
    await eventually(
      `${point} is reached`,
      async () => readdirSync(faultDir).some((name) => name.includes('.reached.')),
      30_000,
    );
    process.kill((await processOf(stateDir, role)).pid, 'SIGKILL');
    writeFileSync(join(faultDir, `${point}.go`), '');
    const started = await first;
    expect(started === null).toBe(role === 'keeper');
    const server: CrashServer = started ?? (await startCrashServer(options));
    const web = await server.client.getBox('web');
    expect(await server.client.listBoxes()).toHaveLength(4);
    expect((await server.client.listExecs(web.id)).map(({ status }) => status).sort()).toEqual([
      'canceled',
      'failed',
      'failed',
      'succeeded',
    ]);
    expect(await collect(server.client, { id: 'exec_failed000000', box_id: web.id })).toMatchObject({
      stdout: 'one two',
      stderr: 'grün',
    });
    expectIntegrity(stateDir);
    await server.close();
    expect(await processesOf(stateDir)).toEqual([]);
  },
);
