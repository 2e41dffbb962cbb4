// Tests tar archives. GNU tar reads what BoxRun writes, and BoxRun reads what GNU tar writes, in pieces of any size. A
// damaged archive is an error.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTarWalker, packTar, type TarEntry } from '../../../src/shared/images/tar.ts';

let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-test-tar-'));
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

async function walk(archive: Buffer, pieceBytes = 65_536): Promise<Array<TarEntry & { content: string }>> {
  const entries: Array<TarEntry & { content: string }> = [];
  const walker = createTarWalker((entry) => {
    const collected = { ...entry, content: '' };
    entries.push(collected);
    return (chunk) => {
      collected.content += chunk.toString('latin1');
    };
  });
  const pieces = Array.from({ length: Math.ceil(archive.length / pieceBytes) }, (_, index) =>
    archive.subarray(index * pieceBytes, (index + 1) * pieceBytes),
  );
  const sink = new Writable({
    write(_chunk, _encoding, done) {
      done();
    },
  });
  await pipeline(Readable.from(pieces), walker, sink);
  return entries;
}

describe('writing a tar archive', () => {
  const files = [
    { path: 'etc', mode: 0o755, type: 'directory' as const },
    { path: 'etc/motd', mode: 0o644, type: 'file' as const, content: Buffer.from('hello\n') },
    { path: 'bin', mode: 0o777, type: 'symlink' as const, target: 'usr/bin' },
  ];

  test('gives a file that GNU tar lists with owner, mode, type and time', () => {
    const path = join(dir, 'packed.tar');
    writeFileSync(path, packTar(files));
    const listing = execFileSync('tar', ['--utc', '-tvf', path], {
      encoding: 'utf8',
      env: { ...process.env, TZ: 'UTC' },
    });
    expect(listing).toContain('drwxr-xr-x 0/0');
    expect(listing).toMatch(/-rw-r--r-- 0\/0 +6 1970-01-01 00:00 etc\/motd/);
    expect(listing).toContain('bin -> usr/bin');
  });

  test('gives the same bytes each time', () => {
    expect(packTar(files).equals(packTar(files))).toBe(true);
  });

  test('refuses a path that does not fit a plain header', () => {
    expect(() => packTar([{ path: 'x'.repeat(101), mode: 0o644, type: 'file' }])).toThrow(RangeError);
  });
});

describe('reading a tar archive', () => {
  const longName = `${'long/'.repeat(40)}name`;

  function gnuTar(format: string): Buffer {
    const tree = mkdtempSync(join(dir, 'tree-'));
    mkdirSync(join(tree, 'long/'.repeat(40)), { recursive: true });
    writeFileSync(join(tree, longName), 'far away');
    writeFileSync(join(tree, 'plain'), 'x'.repeat(1500));
    symlinkSync('plain', join(tree, 'link'));
    return execFileSync('tar', [`--format=${format}`, '-C', tree, '-c', '.'], { maxBuffer: 2 ** 26 });
  }

  test.each(['gnu', 'pax', 'ustar'])(
    'gives the entries of a %s archive with long names and contents, for pieces of any size',
    async (format) => {
      const archive = gnuTar(format);
      for (const pieceBytes of [1, 100, 512, 65_536]) {
        const entries = await walk(archive, pieceBytes);
        const byPath = new Map(entries.map((entry) => [entry.path, entry]));
        expect(byPath.get('./plain')?.content).toBe('x'.repeat(1500));
        expect(byPath.get(`./${longName}`)?.content).toBe('far away');
        expect(byPath.get('./link')?.type).toBe('2');
      }
    },
  );

  test('fails if the archive is cut or overwritten', async () => {
    const archive = gnuTar('gnu');
    await expect(walk(archive.subarray(0, 700))).rejects.toThrow('damaged archive');
    await expect(walk(Buffer.concat([Buffer.from('not a tar at all'), Buffer.alloc(1000, 1)]))).rejects.toThrow(
      'damaged archive',
    );
  });
});
