// Tests homes that are copied from the home of an earlier box with the same image. They have its guest disk and its
// image index under their own name, and nothing of its box.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createTemplateHome } from '../../../src/worker/drivers/boxlite/home/template-home.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

const image = { kind: 'registry', reference: 'alpine:3.20' } as const;

interface Homes {
  readonly imagesDir: string;
  readonly path: (box: string) => string;
}

/** A home as BoxLite 0.10.0 leaves it. Its database stays open during the test. */
function homes(): Homes & { readonly first: string } {
  const top = temporaryDirectory();
  const path = (box: string) => join(top, 'boxes', box);
  const first = path('box_first0000000');
  for (const name of ['db', 'bases']) mkdirSync(join(first, name), { recursive: true });
  writeFileSync(join(first, 'bases', 'ZOt9.ext4'), 'the guest');
  const db = new Database(join(first, 'db', 'boxlite.db'));
  onTestFinished(() => {
    db.close();
  });
  db.pragma('journal_mode = WAL');
  db.exec(`
    CREATE TABLE box_config (id TEXT PRIMARY KEY, name TEXT UNIQUE, json TEXT);
    CREATE TABLE box_state (id TEXT PRIMARY KEY REFERENCES box_config(id) ON DELETE CASCADE, json TEXT);
    CREATE TABLE alive (id INTEGER PRIMARY KEY, boot_id TEXT);
    CREATE TABLE base_disk (id TEXT PRIMARY KEY, base_path TEXT, json TEXT);
    CREATE TABLE base_disk_ref (base_disk_id TEXT, box_id TEXT);
    CREATE TABLE snapshot (id TEXT PRIMARY KEY);
    CREATE TABLE image_index (reference TEXT PRIMARY KEY);
    INSERT INTO box_config VALUES ('a', 'box_first0000000', '{"secret":"of-the-first-box"}');
    INSERT INTO box_state VALUES ('a', '{}');
    INSERT INTO alive VALUES (1, 'boot');
    INSERT INTO base_disk VALUES ('ZOt9', '${first}/bases/ZOt9.ext4', '{"base_path":"${first}/bases/ZOt9.ext4"}');
    INSERT INTO base_disk_ref VALUES ('ZOt9', 'a');
    INSERT INTO image_index VALUES ('alpine:3.20');
  `);
  return { imagesDir: join(top, 'images'), path, first };
}

function rows(home: string, sql: string): unknown[] {
  const db = new Database(join(home, 'db', 'boxlite.db'), { readonly: true });
  try {
    expect(db.pragma('integrity_check', { simple: true })).toBe('ok');
    return db.prepare(sql).raw().all();
  } finally {
    db.close();
  }
}

describe('a template home', () => {
  it('gives another home its disk and index under the new name, and nothing of the first box', async () => {
    const { imagesDir, first, path } = homes();
    const template = createTemplateHome(imagesDir, image);
    await template.keep(first);
    for (const box of ['box_second000000', 'box_longer_than_the_first', 'box_x']) {
      const home = path(box);
      expect(await template.seed(home)).toBe(true);
      const disk = join(home, 'bases', 'ZOt9.ext4');
      expect(rows(home, 'SELECT base_path, json FROM base_disk')).toEqual([
        [disk, JSON.stringify({ base_path: disk })],
      ]);
      expect(readFileSync(disk, 'utf8')).toBe('the guest');
      expect(statSync(disk).ino).toBe(statSync(join(first, 'bases', 'ZOt9.ext4')).ino);
      expect(rows(home, 'SELECT reference FROM image_index')).toEqual([['alpine:3.20']]);
      for (const table of ['box_config', 'box_state', 'alive', 'base_disk_ref'])
        expect(rows(home, `SELECT * FROM ${table}`)).toEqual([]);
      expect(readFileSync(join(home, 'db', 'boxlite.db'), 'latin1')).not.toContain('of-the-first-box');
    }
    expect(rows(first, 'SELECT id FROM box_config')).toEqual([['a']]); // The source of the template has not changed.
  });

  it('is used for one image only', async () => {
    const { imagesDir, first, path } = homes();
    await createTemplateHome(imagesDir, image).keep(first);
    expect(
      await createTemplateHome(imagesDir, { kind: 'registry', reference: 'debian:12' }).seed(path('box_second000000')),
    ).toBe(false);
  });

  it('does not change a home that has been opened', async () => {
    const { imagesDir, first } = homes();
    const template = createTemplateHome(imagesDir, image);
    await template.keep(first);
    const before = readFileSync(join(first, 'db', 'boxlite.db'));
    expect(await template.seed(first)).toBe(false);
    expect(readFileSync(join(first, 'db', 'boxlite.db'))).toEqual(before);
  });

  it('is not made from a damaged database, and leaves nothing behind', async () => {
    const { imagesDir, first, path } = homes();
    for (const name of ['boxlite.db', 'boxlite.db-wal'])
      writeFileSync(join(first, 'db', name), Buffer.alloc(16_384, 7));
    const template = createTemplateHome(imagesDir, image);
    await expect(template.keep(first)).rejects.toThrow();
    expect(readdirSync(join(imagesDir, 'boxlite-homes'))).toEqual([]);
    expect(await template.seed(path('box_second000000'))).toBe(false);
  });

  it('leaves nothing in a home into which it cannot be copied', async () => {
    const { imagesDir, first, path } = homes();
    const template = createTemplateHome(imagesDir, image);
    await template.keep(first);
    mkdirSync(join(path('box_third0000000'), 'bases', 'ZOt9.ext4'), { recursive: true }); // In the place of a link.
    await expect(template.seed(path('box_third0000000'))).rejects.toThrow('EEXIST');
    expect(readdirSync(path('box_third0000000'))).toEqual([]);
  });
});
