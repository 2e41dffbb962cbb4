// Tests what a supervisor does before it listens, with a real writer and a double of each box: it sends spilled output,
// takes the quota from the rows, and resumes the boxes.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig, type Config } from '../../../src/shared/settings/config.ts';
import { makeStateDirectories, statePaths } from '../../../src/shared/settings/state-dir.ts';
import { limits } from '../../../src/shared/limits.ts';
import { writeSpill } from '../../../src/shared/contracts/spill.ts';
import type { BoxRow } from '../../../src/shared/store/rows.ts';
import { createBoxRegistry } from '../../../src/supervisor/boxes/box-registry.ts';
import type { SupervisedBox } from '../../../src/supervisor/boxes/box.ts';
import { createQuota } from '../../../src/supervisor/admission/quota.ts';
import { recover } from '../../../src/supervisor/recovery/recovery.ts';
import { createSpills } from '../../../src/supervisor/workers/spills.ts';
import { createWarmPool } from '../../../src/supervisor/workers/warm-pool.ts';
import { quietLog, temporaryDirectory } from '../../support/runs/unit.ts';
import { addEvent, boxRow, execRow, finishExec, insertExec, logEvent, serveWriter } from '../writer/setup.ts';

const execId = execRow().id;

function createState(): Config {
  const stateDir = temporaryDirectory();
  makeStateDirectories(stateDir);
  return loadConfig({ stateDir }, {});
}

async function recoverWith(config: Config, rows: BoxRow[]) {
  const registry = createBoxRegistry(10);
  const quota = createQuota({ cpu: 10, memoryMb: 10_000, workers: null });
  const resumed: string[] = [];
  await recover({
    config,
    registry,
    quota,
    log: quietLog,
    spills: createSpills(config, quietLog),
    reader: { boxRows: () => rows },
    workers: { config, log: quietLog, liveWorkers: new Set(), starting: new Set() },
    pool: createWarmPool({ size: () => 0, start: () => Promise.reject(new Error('none')), log: quietLog }),
    supervise: (row) =>
      ({
        id: row.id,
        row,
        state: row.state,
        resume: async () => {
          resumed.push(row.id);
        },
      }) as unknown as SupervisedBox,
  });
  return { registry, quota, resumed };
}

describe('spilled output of a worker', () => {
  it('is in the database once when the recovery ends, and its file is removed', async () => {
    const config = createState();
    const { spillDir, writerSocket } = statePaths(config.stateDir);
    const writer = await serveWriter(config.dbPath, writerSocket);
    writer.statements.insertBox(boxRow());
    writer.statements.changeExec(insertExec());
    writer.statements.changeExec(addEvent(execId, logEvent(0)));
    const changes = [addEvent(execId, logEvent(0)), addEvent(execId, logEvent(1)), finishExec(execId)];
    await writeSpill(spillDir, 'wrk_1', { boxId: boxRow().id, generation: 1, changes });
    await recoverWith(config, []);
    expect(writer.rows('SELECT seq FROM events ORDER BY seq')).toEqual([{ seq: 0 }, { seq: 1 }]);
    expect(writer.value('SELECT status FROM execs')).toBe('succeeded');
    expect(readdirSync(spillDir)).toEqual([]);
  });

  it('may be longer than a frame and longer than one commit', async () => {
    const config = createState();
    const { spillDir, writerSocket } = statePaths(config.stateDir);
    const writer = await serveWriter(config.dbPath, writerSocket);
    writer.statements.insertBox(boxRow());
    const count = Math.ceil(limits.frameBytesMax / limits.eventBytesMax) + 10;
    const events = Array.from({ length: count }, (_, seq) =>
      addEvent(execId, { ...logEvent(seq), data: Buffer.alloc(limits.eventBytesMax, 'x') }),
    );
    const exit = addEvent(execId, { seq: count, type: 'exit', stream: null, data: Buffer.from('{}') });
    await writeSpill(spillDir, 'wrk_1', {
      boxId: boxRow().id,
      generation: 1,
      changes: [insertExec(), ...events, exit, finishExec(execId)],
    });
    await recoverWith(config, []);
    expect(writer.value('SELECT count(*) FROM events')).toBe(count + 1);
    expect(writer.value('SELECT status FROM execs')).toBe('succeeded');
    expect(readdirSync(spillDir)).toEqual([]);
  });

  it('is dropped if its lease has ended', async () => {
    const config = createState();
    const { spillDir, writerSocket } = statePaths(config.stateDir);
    const writer = await serveWriter(config.dbPath, writerSocket);
    writer.statements.insertBox(boxRow({ generation: 5 }));
    await writeSpill(spillDir, 'wrk_1', { boxId: boxRow().id, generation: 1, changes: [insertExec()] });
    await recoverWith(config, []);
    expect(writer.value('SELECT count(*) FROM execs')).toBe(0);
    expect(readdirSync(spillDir)).toEqual([]);
  });

  it('stays in its file until the writer takes it, and does not delay the start', async () => {
    const config = createState();
    const { spillDir, writerSocket } = statePaths(config.stateDir);
    await writeSpill(spillDir, 'wrk_1', { boxId: boxRow().id, generation: 1, changes: [insertExec()] });
    expect((await recoverWith(config, [boxRow()])).resumed).toEqual([boxRow().id]);
    expect(readdirSync(spillDir)).toEqual(['wrk_1.spill']);
    const writer = await serveWriter(config.dbPath, writerSocket);
    writer.statements.insertBox(boxRow());
    await expect.poll(() => readdirSync(spillDir), { timeout: 5_000 }).toEqual([]);
  });

  it('does not prevent the start if it cannot be read', async () => {
    const config = createState();
    writeFileSync(join(statePaths(config.stateDir).spillDir, 'wrk_1.spill'), 'garbage');
    await recoverWith(config, []);
  });
});

describe('the boxes in the database', () => {
  it('are all known and resumed, and have their quota, when recovery ends', async () => {
    const rows = [
      boxRow({ id: 'box_1', name: 'web', state: 'ready', cpu: 3 }),
      boxRow({ id: 'box_2', state: 'stopped', cpu: 9 }),
      boxRow({ id: 'box_3', state: 'recovering', cpu: 4 }),
      boxRow({ id: 'box_4', state: 'creating', cpu: 2 }),
    ];
    const { registry, quota, resumed } = await recoverWith(createState(), rows);
    expect(registry.find('web').id).toBe('box_1');
    expect(registry.all()).toHaveLength(4);
    expect(resumed).toEqual(['box_1', 'box_2', 'box_3', 'box_4']);
    expect(() => {
      quota.reserve('new', 2, 1);
    }).toThrow();
    quota.reserve('new', 1, 1);
  });
});
