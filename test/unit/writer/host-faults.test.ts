// Tests faults of the host under the writer, with a real database: a full disk, another program that holds the
// database, a read-only directory, a damaged file, a clock that jumps backwards. Each error says what to do (the clock
// causes none), and no acknowledged change is lost.
import Database from 'better-sqlite3';
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { makeStateDirectories } from '../../../src/shared/settings/state-dir.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';
import { boxRow, openWriter } from './setup.ts';

/** Only root may mount. */
const asRoot = it.skipIf(process.getuid?.() !== 0);

function smallDisk(bytes: number): string {
  const path = temporaryDirectory();
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'boxrun-test', path]);
  onTestFinished(() => {
    execFileSync('umount', ['--lazy', path]);
  });
  return path;
}

const ids = (count: number) => Array.from({ length: count }, (_, index) => `box_${String(index).padStart(12, '0')}`);

describe('a writer on a full disk', () => {
  asRoot(
    'refuses changes, keeps all that it has acknowledged, and takes changes again when there is room',
    async () => {
      const disk = smallDisk(2 * 2 ** 20);
      const writer = await openWriter(join(disk, 'boxrun.db'));
      const insert = (id: string) =>
        writer.batch.submit(() => {
          writer.statements.insertBox(boxRow({ id, env: { FILL: 'x'.repeat(20_000) } }));
        });
      const acknowledged: string[] = [];
      let refusal: unknown = null;
      for (const id of ids(1_000)) {
        try {
          await insert(id);
          acknowledged.push(id);
        } catch (error) {
          refusal = error;
          break;
        }
      }
      expect(refusal).toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringMatching(/database.*full/) as unknown,
        hint: expect.stringContaining('free disk space') as unknown,
      });
      expect(acknowledged.length).toBeGreaterThan(10);
      expect(writer.batch.isFailing).toBe(true);
      const rows = () => writer.rows('SELECT id FROM boxes ORDER BY id').map(({ id }) => id);
      expect(rows()).toEqual(acknowledged);
      await writer.batch.submit(writer.statements.writeTestRow).catch(() => undefined);
      execFileSync('mount', ['-o', `remount,size=${8 * 2 ** 20}`, disk]);
      await writer.batch.submit(writer.statements.writeTestRow);
      expect(writer.batch.isFailing).toBe(false);
      await insert('box_afterwards00');
      expect(rows()).toEqual([...acknowledged, 'box_afterwards00']);
      expect(writer.value('PRAGMA integrity_check')).toBe('ok');
    },
  );
});

describe('a change while another program holds the database', () => {
  it('gets an error that says so, and succeeds when the program has released it', async () => {
    const writer = await openWriter();
    const other = new Database(writer.path);
    onTestFinished(() => {
      other.close();
    });
    writer.db.pragma('busy_timeout = 50');
    const change = () =>
      writer.batch.submit(() => {
        writer.statements.insertBox(boxRow());
      });
    other.exec('BEGIN IMMEDIATE');
    await expect(change()).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      hint: expect.stringContaining('close the program that holds the database') as unknown,
    });
    expect(writer.batch.isFailing).toBe(true);
    other.exec('ROLLBACK');
    await change();
    expect(writer.batch.isFailing).toBe(false);
    expect(writer.value('SELECT count(*) FROM boxes')).toBe(1);
  });
});

describe('a state directory that is read-only', () => {
  asRoot('is named in an error that says what to do', async () => {
    const disk = smallDisk(2 * 2 ** 20);
    (await openWriter(join(disk, 'boxrun.db'))).close();
    execFileSync('mount', ['-o', 'remount,ro', disk]);
    expect(() => {
      makeStateDirectories(disk);
    }).toThrow(
      expect.objectContaining({
        code: 'RUNTIME_ERROR',
        message: expect.stringContaining(`state directory ${disk}`) as unknown,
        hint: expect.stringContaining('BOXRUN_STATE_DIR') as unknown,
      }),
    );
    await expect(openWriter(join(disk, 'boxrun.db'))).rejects.toThrow(/EROFS|read-only/);
  });
});

describe('a damaged database', () => {
  it.each([
    ['with garbage', Buffer.from('this is no database, and never was one'.repeat(200))],
    ['with only a header', Buffer.concat([Buffer.from('SQLite format 3\0'), Buffer.alloc(5_000, 0xa5)])],
  ])('is refused %s with a hint, and is not changed', async (_, content) => {
    const path = join(temporaryDirectory(), 'boxrun.db');
    writeFileSync(path, content);
    await expect(openWriter(path)).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      message: expect.stringContaining(path) as unknown,
      hint: expect.stringContaining('backup') as unknown,
    });
    const { readFileSync } = await import('node:fs');
    expect(readFileSync(path).equals(content)).toBe(true);
    rmSync(path);
    await openWriter(path); // The failed open has released its lock.
  });
});

describe('a clock that jumps backwards', () => {
  it('loses no rows and leaves the database whole', async () => {
    const writer = await openWriter();
    const at = ['2026-06-01T00:00:00.000Z', '2020-01-01T00:00:00.000Z', '2026-06-01T00:00:01.000Z'];
    for (const [index, created_at] of at.entries()) {
      await writer.batch.submit(() => {
        writer.statements.insertBox(boxRow({ id: `box_clock${index}aaaaaa`, created_at }));
      });
    }
    expect(writer.rows('SELECT id FROM boxes ORDER BY rowid').length).toBe(3);
    expect(writer.value('PRAGMA integrity_check')).toBe('ok');
  });
});
