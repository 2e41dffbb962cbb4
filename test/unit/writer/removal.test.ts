// Tests how old history is removed from a real database: only what is due, in slices, and without reading the history
// that stays.
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { startCleanup } from '../../../src/writer/cleanup.ts';
import type { CleanupPosition } from '../../../src/writer/removal.ts';
import { quietLog } from '../../support/runs/unit.ts';
import { addEvent, boxRow, insertExec, logEvent, openWriter, type OpenWriter } from './setup.ts';

const before = '2026-02-01T00:00:00.000Z';
const old = '2026-01-01T00:00:00.000Z';
const young = '2026-03-01T00:00:00.000Z';

async function openWithBoxes(): Promise<OpenWriter> {
  const writer = await openWriter();
  for (const id of ['box_a', 'box_b']) writer.statements.insertBox(boxRow({ id }));
  return writer;
}

function add(
  { statements }: OpenWriter,
  id: string,
  {
    box = 'box_a',
    created = old,
    finished = old,
    events = 3,
  }: { box?: string; created?: string; finished?: string | null; events?: number } = {},
): void {
  const status = finished === null ? 'running' : 'succeeded';
  statements.changeExec(insertExec({ id, box_id: box, created_at: created, finished_at: finished, status }));
  for (let seq = 0; seq < events; seq++) statements.changeExec(addEvent(id, logEvent(seq)));
}

/** Removes all that is due, and returns the number of slices. */
function removeAll({ db, statements }: OpenWriter): number {
  const removeSlice = db.transaction((from: CleanupPosition) => statements.removeExpiredSlice(before, from));
  let position: CleanupPosition = null;
  for (let slices = 1; ; slices++) {
    position = removeSlice(position);
    if (position === null) return slices;
    expect(slices).toBeLessThan(1_000);
  }
}

const left = ({ rows }: OpenWriter) => rows('SELECT id FROM execs ORDER BY id').map(({ id }) => id);

describe('the history of old commands', () => {
  it('is removed with its events in every box, and nothing else is removed', async () => {
    const writer = await openWithBoxes();
    add(writer, 'exec_old_a');
    add(writer, 'exec_old_b', { box: 'box_b' });
    add(writer, 'exec_runs', { finished: null });
    add(writer, 'exec_ended_late', { finished: young });
    add(writer, 'exec_young', { created: young, finished: young });
    expect(removeAll(writer)).toBe(1);
    expect(left(writer)).toEqual(['exec_ended_late', 'exec_runs', 'exec_young']);
    expect(writer.value('SELECT count(*) FROM events')).toBe(9);
  });

  it('is removed in slices of limited length, even if one command has much output', async () => {
    const writer = await openWithBoxes();
    writer.db.transaction(() => {
      add(writer, 'exec_loud', { events: 2 * limits.deleteSliceRows });
      for (let index = 0; index < 100; index++)
        add(writer, `exec_${index}`, { finished: index % 2 === 0 ? old : null });
    })();
    expect(removeAll(writer)).toBeGreaterThan(2);
    expect(writer.value(`SELECT count(*) FROM execs WHERE status <> 'running'`)).toBe(0);
    expect(writer.value('SELECT count(*) FROM execs')).toBe(50);
  });

  it('is removed a few commands at a time, because each may change pages far apart', async () => {
    const writer = await openWithBoxes();
    writer.db.transaction(() => {
      for (let index = 0; index < 10 * limits.cleanupSliceExecs; index++) add(writer, `exec_${index}`);
    })();
    expect(removeAll(writer)).toBeGreaterThanOrEqual(10);
    expect(left(writer)).toEqual([]);
  });

  it('is found by an index, and no slice reads the history that stays', async () => {
    const { db } = await openWithBoxes();
    const prepared: string[] = [];
    const prepare = db.prepare.bind(db);
    const noting = new Proxy(db, {
      get: (target, name) =>
        name === 'prepare'
          ? (sql: string) => {
              prepared.push(sql);
              return prepare(sql);
            }
          : (Reflect.get(target, name) as unknown),
    });
    const { prepareRemovals } = await import('../../../src/writer/removal.ts');
    prepareRemovals(noting);
    expect(prepared).toHaveLength(5);
    for (const sql of prepared) {
      const parameters = sql.includes('$') ? [{ boxId: '', before: '', createdAt: '', rowid: 0 }] : [''];
      const plan = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...parameters) as { detail: string }[];
      expect(plan.map(({ detail }) => detail).filter((detail) => detail.startsWith('SCAN'))).toEqual([]);
    }
  });

  it('does not delay other changes until the whole cleanup is done', async () => {
    const writer = await openWithBoxes();
    writer.db.transaction(() => {
      add(writer, 'exec_loud', { events: 20_000 });
    })();
    const cleanup = startCleanup({
      batch: writer.batch,
      statements: writer.statements,
      checkpoint: writer.checkpoint,
      firstMs: 0,
      log: quietLog,
      retentionHours: 24,
    });
    await writer.batch.submit(() => {
      writer.statements.insertBox(boxRow({ id: 'box_c' }));
    });
    expect(writer.value('SELECT count(*) FROM events')).toBeGreaterThan(0);
    await expect.poll(() => left(writer), { timeout: 10_000 }).toEqual([]);
    cleanup.close();
  });

  it('is kept for ever with retention 0, and removed as soon as a retention is set', async () => {
    const writer = await openWithBoxes();
    add(writer, 'exec_old');
    const cleanup = startCleanup({
      batch: writer.batch,
      statements: writer.statements,
      checkpoint: writer.checkpoint,
      firstMs: 0,
      log: quietLog,
      retentionHours: 0,
    });
    await writer.batch.idle();
    expect(left(writer)).toEqual(['exec_old']);
    cleanup.setRetention(24);
    await expect.poll(() => left(writer), { timeout: 10_000 }).toEqual([]);
    cleanup.close();
  });
});

describe('the history of a removed box', () => {
  it('is removed in several slices', async () => {
    const writer = await openWithBoxes();
    writer.db.transaction(() => {
      for (let index = 0; index < 3 * limits.deleteSliceRows; index++) add(writer, `exec_${index}`, { events: 0 });
    })();
    let slices = 1;
    const removeSlice = writer.db.transaction(() => writer.statements.removeBoxSlice('box_a'));
    while (!removeSlice().isDone) slices++;
    expect(slices).toBeGreaterThan(2);
    expect(left(writer)).toEqual([]);
  });
});
