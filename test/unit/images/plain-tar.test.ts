// Tests how layers are made plain: without holes, without ids that no box has, and without headers for the whole
// archive. All else stays the same. GNU tar writes the archives in each of its forms, and GNU tar reads the results.
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { noFindings, plainTar, type TarFindings } from '../../../src/shared/images/plain-tar.ts';

let dir = '';
let tree = '';
const longName = `${'long/'.repeat(40)}name`;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-test-plain-'));
  tree = join(dir, 'tree');
  mkdirSync(join(tree, 'long/'.repeat(40)), { recursive: true });
  writeFileSync(join(tree, 'before'), 'x'.repeat(1500));
  writeFileSync(join(tree, 'zeros after'), 'y');
  writeWithHoles(
    join(tree, 'few'),
    [
      [0, 'start'],
      [2_000_000, 'middle'],
    ],
    3_000_000,
  );
  writeWithHoles(
    join(tree, longName),
    Array.from({ length: 60 }, (_, index) => [index * 100_000 + 50_000, `piece ${index}`]),
    6_500_000,
  );
  writeWithHoles(join(tree, 'nothing'), [], 1_000_001);
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

function writeWithHoles(path: string, pieces: ReadonlyArray<readonly [number, string]>, size: number): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  for (const [offset, text] of pieces) writeSync(fd, text, offset);
  closeSync(fd);
}

function pack(...args: string[]): Buffer {
  return execFileSync('tar', ['-C', tree, '-c', ...args, '.'], { maxBuffer: 2 ** 27 });
}

async function plain(archive: Buffer, findings: TarFindings = noFindings(), pieceBytes = 65_536): Promise<Buffer> {
  const pieces = Array.from({ length: Math.ceil(archive.length / pieceBytes) }, (_, index) =>
    archive.subarray(index * pieceBytes, (index + 1) * pieceBytes),
  );
  const result: Buffer[] = [];
  for await (const piece of plainTar(Readable.from(pieces), findings)) result.push(piece);
  return Buffer.concat(result);
}

describe('files with holes in an archive', () => {
  test.each([
    ['--format=gnu', '-S'],
    ['--format=posix', '-S', '--sparse-version=0.0'],
    ['--format=posix', '-S', '--sparse-version=0.1'],
    ['--format=posix', '-S', '--sparse-version=1.0'],
  ])('get their zeros in the form %s %s %s', async (...args) => {
    const archive = pack(...args);
    const findings = noFindings();
    for (const pieceBytes of [511, 65_536]) {
      const result = await plain(archive, findings, pieceBytes);
      const target = mkdtempSync(join(dir, 'out-'));
      execFileSync('tar', ['-C', target, '-x'], { input: result });
      for (const name of ['before', 'zeros after', 'few', longName, 'nothing']) {
        expect(readFileSync(join(target, name)).equals(readFileSync(join(tree, name))), name).toBe(true);
        expect(statSync(join(target, name)).mtimeMs / 1000).toBeCloseTo(statSync(join(tree, name)).mtimeMs / 1000, -1);
      }
      expect(readdirSync(target).sort()).toEqual(readdirSync(tree).sort());
      expect((await plain(result)).equals(result)).toBe(true); // A plain archive does not change again.
    }
    expect(findings.sparse).toBe(6);
  });

  test('are refused with their name if they have more zeros than a host should store', async () => {
    const huge = mkdtempSync(join(dir, 'huge-'));
    writeWithHoles(join(huge, 'lastlog'), [[0, 'x']], limits.imageHoleBytesMax + 2 ** 20);
    const archive = execFileSync('tar', ['-C', huge, '-S', '-c', 'lastlog']);
    await expect(
      (async () => {
        for await (const piece of plainTar(Readable.from([archive]), noFindings())) void piece;
      })(),
    ).rejects.toThrow(/^lastlog has holes/);
  });

  test('are refused if their map is damaged', async () => {
    const archive = pack('--format=gnu', '-S', '--exclude=long');
    const at = archive.indexOf('./few');
    archive.write('77777777777', at + 386 + 12); // The length of the first piece of the file.
    archive.fill(' ', at + 148, at + 156);
    const sum = archive.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
    archive.write(`${sum.toString(8).padStart(6, '0')}\0`, at + 148);
    await expect(plain(archive)).rejects.toThrow(/map of a file with holes is wrong/);
  });
});

describe('the owners in an archive', () => {
  test.each([
    ['gnu', '70000'],
    ['posix', '70000'],
    ['gnu', '4294967294'],
    ['posix', '4294967294'],
  ])('become the user nobody if no box has them, in the form %s for the id %s', async (format, id) => {
    const findings = noFindings();
    const result = await plain(pack(`--format=${format}`, '-S', `--owner=:${id}`, '--group=:65535'), findings);
    const owners = execFileSync('tar', ['--numeric-owner', '-tv'], { input: result, encoding: 'utf8' })
      .trim()
      .split('\n')
      .map((line) => line.split(/\s+/)[1]);
    expect(new Set(owners)).toEqual(new Set(['65534/65535']));
    expect(findings.foreign).toBe(owners.length);
    expect(findings.firstForeign?.id).toBe(Number(id));
    expect((await plain(result)).equals(result)).toBe(true);
  });
});

describe('the rest of an archive', () => {
  test.each(['gnu', 'posix', 'ustar', 'v7'])('passes unchanged in the form %s', async (format) => {
    const archive = pack(`--format=${format}`, '--exclude=long', '--owner=:65535', '--group=:0');
    const findings = noFindings();
    expect((await plain(archive, findings)).equals(archive)).toBe(true);
    expect(findings).toEqual(noFindings());
  });

  test('keeps a name that is not text, even if its owner changes', async () => {
    const odd = mkdtempSync(join(dir, 'odd-'));
    const name = Buffer.concat([Buffer.from(`${odd}/`), Buffer.from([0xff, 0xfe, 0x41])]);
    writeFileSync(name, 'odd');
    for (const format of ['gnu', 'posix']) {
      const archive = execFileSync('tar', ['-C', odd, `--format=${format}`, '--owner=:70000', '-c', '.']);
      expect((await plain(archive)).includes(Buffer.from([0xff, 0xfe, 0x41]))).toBe(true);
    }
  });

  test('passes without headers for the whole archive', async () => {
    const archive = pack('--format=posix', '--pax-option=comment=made here', '--exclude=long');
    expect(archive.includes('comment=made here')).toBe(true);
    const findings = noFindings();
    const result = await plain(archive, findings);
    expect(findings).toEqual({ ...noFindings(), globals: 1 });
    // The header and its body are one block each. They are the first ones.
    expect(result.equals(archive.subarray(1024))).toBe(true);
  });

  test('is refused if it is damaged or ends inside an entry', async () => {
    const archive = pack('--exclude=long');
    await expect(plain(archive.subarray(0, 1000))).rejects.toThrow('too early');
    await expect(plain(Buffer.alloc(2048, 7))).rejects.toThrow('damaged archive');
    expect(await plain(Buffer.alloc(0))).toEqual(Buffer.alloc(0));
  });
});
