// Tests how the writer takes over the database of another edition. It takes over everything and keeps a backup, or it
// refuses and changes nothing.
import Database from 'better-sqlite3';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { schemaVersion } from '../../../src/shared/store/migrations.ts';
import { writeOtherEdition } from '../../support/api/other-edition.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';
import { openWriter } from './setup.ts';

function otherEdition(): string {
  const path = join(temporaryDirectory(), 'boxrun.db');
  writeOtherEdition(path);
  return path;
}

const dump = (path: string) => {
  const db = new Database(path, { readonly: true });
  const rows = ['boxes', 'execs', 'events'].map((table) => db.prepare(`SELECT * FROM ${table}`).all());
  db.close();
  return rows;
};

describe('the database of another edition', () => {
  it('brings its boxes, and none of them is running', async () => {
    const { rows } = await openWriter(otherEdition());
    expect(
      rows('SELECT id, name, status, state, driver, disk_size_gb, network FROM boxes ORDER BY created_at'),
    ).toEqual([
      {
        id: 'box_running00000',
        name: 'web',
        status: 'stopped',
        state: 'stopped',
        driver: 'boxlite',
        disk_size_gb: 8,
        network: 1,
      },
      {
        id: 'box_stopped00000',
        name: null,
        status: 'stopped',
        state: 'stopped',
        driver: 'boxlite',
        disk_size_gb: 8,
        network: 1,
      },
      {
        id: 'box_creating0000',
        name: null,
        status: 'stopped',
        state: 'stopped',
        driver: 'boxlite',
        disk_size_gb: 8,
        network: 1,
      },
      {
        id: 'box_error0000000',
        name: null,
        status: 'error',
        state: 'failed',
        driver: 'boxlite',
        disk_size_gb: 8,
        network: 1,
      },
    ]);
    const [web] = rows(`SELECT env, volumes, created_at FROM boxes WHERE name = 'web'`);
    expect(web).toEqual({
      env: '{"COLOUR":"blue"}',
      volumes:
        '[{"host_path":"/srv","guest_path":"/data","readonly":false},{"host_path":"/a","guest_path":"/b","readonly":true}]',
      created_at: '2025-03-04T03:06:00.123Z',
    });
  });

  it('brings the output of each command without a gap or a double, and with one exit event at the end', async () => {
    const { rows } = await openWriter(otherEdition());
    const ends = {
      succeeded: { exit_code: 0 },
      failed: { exit_code: 3 },
      canceled: { exit_code: null, error: 'canceled' },
      running: { exit_code: null, error: 'its server ended while it ran' },
    };
    for (const [status, end] of Object.entries(ends)) {
      const events = rows(
        'SELECT seq, type, stream, CAST(data AS TEXT) AS text FROM events WHERE exec_id = ? ORDER BY seq',
        `exec_${status.padEnd(12, '0')}`,
      );
      expect(events.slice(0, -1)).toEqual([
        { seq: 0, type: 'log', stream: 'stdout', text: 'one ' },
        { seq: 1, type: 'log', stream: 'stderr', text: 'grün' },
        { seq: 2, type: 'log', stream: 'stdout', text: 'two' },
      ]);
      const { text, ...last } = events.at(-1) as { text: string };
      expect(last).toEqual({ seq: 3, type: 'exit', stream: null });
      expect(JSON.parse(text)).toEqual(end);
    }
    expect(rows('SELECT id, status, finished_at IS NULL AS unfinished FROM execs ORDER BY created_at')).toEqual([
      { id: 'exec_succeeded000', status: 'succeeded', unfinished: 0 },
      { id: 'exec_failed000000', status: 'failed', unfinished: 0 },
      { id: 'exec_canceled0000', status: 'canceled', unfinished: 0 },
      { id: 'exec_running00000', status: 'failed', unfinished: 0 },
    ]);
  });

  it('leaves a private backup beside it, and is a database of this edition from then on', async () => {
    const path = otherEdition();
    const before = dump(path);
    const first = await openWriter(path);
    expect(first.db.pragma('user_version', { simple: true })).toBe(schemaVersion);
    expect(first.value(`SELECT count(*) FROM sqlite_schema WHERE name LIKE 'other_%'`)).toBe(0);
    first.close();
    expect(dump(`${path}.other-edition`)).toEqual(before);
    expect(statSync(`${path}.other-edition`).mode & 0o077).toBe(0);
    expect((await openWriter(path)).instanceId).toBe(first.instanceId);
  });

  it('is refused and not changed if a row cannot be understood, and the error names the row', async () => {
    const path = otherEdition();
    const db = new Database(path);
    db.exec(`UPDATE boxes SET cpu = 'many' WHERE name = 'web'`);
    db.close();
    const before = dump(path);
    await expect(openWriter(path)).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      message: expect.stringContaining('box_running00000') as unknown,
    });
    expect(dump(path)).toEqual(before);
  });
});

describe('a database of another program', () => {
  it('is refused and not changed', async () => {
    const path = join(temporaryDirectory(), 'boxrun.db');
    const db = new Database(path);
    db.exec(`CREATE TABLE boxes (id TEXT); INSERT INTO boxes VALUES ('box_x')`);
    db.close();
    await expect(openWriter(path)).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      hint: expect.stringContaining('BOXRUN_STATE_DIR') as unknown,
    });
    const after = new Database(path);
    expect(after.prepare('SELECT id FROM boxes').pluck().all()).toEqual(['box_x']);
    after.close();
    expect(existsSync(`${path}.other-edition`)).toBe(false);
  });
});
