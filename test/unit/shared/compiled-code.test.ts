// Bundles that are compiled once for many processes: what does not fit is compiled anew, never run.
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadBundle } from '../../../src/worker/compiled-code.ts';
import { temporaryDirectory } from '../../support/unit.ts';

const bundle = (answer: number) =>
  `module.exports.answer = () => ${answer}; module.exports.os = require('node:os').EOL; module.exports.where = __filename;`;

function setUp(text = bundle(42)) {
  const dir = temporaryDirectory();
  const file = join(dir, 'main.cjs');
  const compiledDir = join(dir, 'compiled');
  writeFileSync(file, text);
  const load = () => {
    const { exports, keepCompiled } = loadBundle(file, compiledDir);
    return { exports: exports as { answer: () => unknown; os: string; where: string }, keepCompiled };
  };
  return { file, load, kept: () => readdirSync(compiledDir).map((name) => join(compiledDir, name)) };
}

describe('a bundle', () => {
  it('does the same with what was kept as without', () => {
    const { file, load, kept } = setUp();
    const first = load();
    first.keepCompiled();
    expect(kept()).toHaveLength(1);
    for (const { exports } of [first, load()])
      expect([exports.answer(), exports.os, exports.where]).toEqual([42, '\n', file]);
  });

  it('imports other modules, kept or not', async () => {
    const { load } = setUp(`module.exports.answer = async () => (await importModule('node:os')).EOL;`);
    const first = load();
    first.keepCompiled();
    for (const { exports } of [first, load()]) expect(await exports.answer()).toBe('\n');
  });

  it('keeps nothing twice', () => {
    const { load, kept } = setUp();
    load().keepCompiled();
    const [path = ''] = kept();
    const before = statSync(path).ino;
    load().keepCompiled();
    expect(statSync(path).ino).toBe(before);
  });

  it('of another build, of the same length, is not taken for this one', () => {
    const { file, load, kept } = setUp();
    load().keepCompiled();
    const [old] = kept();
    writeFileSync(file, bundle(43));
    const next = load();
    expect(next.exports.answer()).toBe(43);
    next.keepCompiled();
    expect(kept()).toHaveLength(1); // The old one's is gone.
    expect(kept()[0]).not.toBe(old);
  });

  it.each([
    [
      'cut',
      (path: string) => {
        truncateSync(path, statSync(path).size - 10);
      },
    ],
    [
      'empty',
      (path: string) => {
        truncateSync(path, 0);
      },
    ],
    [
      'changed',
      (path: string) => {
        writeFileSync(path, readFileSync(path).fill(0, 200));
      },
    ],
  ])('is compiled anew where what was kept is %s, and that is replaced', (_, damage) => {
    const { load, kept } = setUp();
    load().keepCompiled();
    const [path = ''] = kept();
    const whole = readFileSync(path).length;
    damage(path);
    const again = load();
    expect(again.exports.answer()).toBe(42);
    again.keepCompiled();
    expect(
      readFileSync(path)
        .subarray(32)
        .some((byte) => byte !== 0),
    ).toBe(true);
    expect(Math.abs(readFileSync(path).length - whole)).toBeLessThan(2_000);
  });

  it('does its work where nothing can be kept', () => {
    const dir = temporaryDirectory();
    writeFileSync(join(dir, 'main.cjs'), bundle(42));
    writeFileSync(join(dir, 'compiled'), 'a file, where a directory should be');
    const { exports, keepCompiled } = loadBundle(join(dir, 'main.cjs'), join(dir, 'compiled'));
    keepCompiled();
    expect((exports as { answer: () => number }).answer()).toBe(42);
  });
});
