// Tests bundles that are compiled once for many processes. Compiled code that does not fit the bundle is never run: the
// bundle is compiled again.
import { chmodSync, linkSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadBundle } from '../../../src/shared/process/compiled-code.ts';
import { runTypescript } from '../../support/runs/typescript-child.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

const bundle = (answer: number) =>
  `module.exports.answer = () => ${answer}; module.exports.os = require('node:os').EOL; module.exports.where = __filename;`;

function setUp(text = bundle(42)) {
  const dir = temporaryDirectory();
  const file = join(dir, 'main.cjs');
  const compiledDir = join(dir, 'compiled');
  writeFileSync(file, text);
  const load = (build = 'a') => {
    const { exports, keepCompiled } = loadBundle(file, compiledDir, build);
    return { exports: exports as { answer: () => unknown; os: string; where: string }, keepCompiled };
  };
  return { file, load, kept: () => readdirSync(compiledDir).map((name) => join(compiledDir, name)) };
}

/**
 * Loads the bundle in another process, and keeps its compiled code. In the same process, V8 would take the code from
 * its memory and not look at the file.
 */
async function loadElsewhere(file: string): Promise<string> {
  const { line, exited } = await runTypescript(`
    import { loadBundle } from './src/shared/process/compiled-code.ts';
    const { exports, keepCompiled } = loadBundle(${JSON.stringify(file)}, ${JSON.stringify(join(dirname(file), 'compiled'))}, 'a');
    keepCompiled();
    console.log(exports.answer());
  `);
  const answer = await line();
  await exited;
  return answer;
}

describe('a bundle', () => {
  it('does the same with kept compiled code as without', () => {
    const { file, load, kept } = setUp();
    const first = load();
    first.keepCompiled();
    expect(kept()).toHaveLength(1);
    for (const { exports } of [first, load()])
      expect([exports.answer(), exports.os, exports.where]).toEqual([42, '\n', file]);
  });

  it('imports other modules with and without kept compiled code', async () => {
    const { load } = setUp(`module.exports.answer = async () => (await importModule('node:os')).EOL;`);
    const first = load();
    first.keepCompiled();
    for (const { exports } of [first, load()]) expect(await exports.answer()).toBe('\n');
  });

  it('adds the code of each new use (`ls`, `rm`) to the file, and loses none', () => {
    const { load, kept } = setUp();
    load().keepCompiled('ls');
    const [path = ''] = kept();
    const uses = () => readFileSync(path, 'latin1').split('\n')[0];
    load().keepCompiled('rm');
    load().keepCompiled('ls');
    expect(uses()).toBe('ls rm');
  });

  it('loads the bundles that it imports in the same way', async () => {
    const { file, load, kept } = setUp(
      `module.exports.answer = async () => (await importModule('./second.cjs')).word;`,
    );
    writeFileSync(join(dirname(file), 'second.cjs'), `module.exports.word = 'second';`);
    const first = load();
    expect(await first.exports.answer()).toBe('second');
    first.keepCompiled();
    expect(kept().map((path) => basename(path).split('.')[0])).toEqual(['main', 'second']);
    expect(await load().exports.answer()).toBe('second');
  });

  it('does not write the same compiled code twice', () => {
    const { load, kept } = setUp();
    load().keepCompiled();
    const [path = ''] = kept();
    const before = statSync(path).ino;
    load().keepCompiled();
    expect(statSync(path).ino).toBe(before);
  });

  it('does not run the compiled code of another build with the same length', () => {
    const { file, load, kept } = setUp();
    load().keepCompiled();
    const [old] = kept();
    writeFileSync(file, bundle(43));
    const next = load('b');
    expect(next.exports.answer()).toBe(43);
    next.keepCompiled();
    expect(kept()).toHaveLength(1); // The compiled code of the old build is deleted.
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
      'writable for others',
      (path: string) => {
        chmodSync(path, 0o622);
      },
    ],
    [
      'a file with a second name (hard link)',
      (path: string) => {
        linkSync(path, join(dirname(path), 'second'));
      },
    ],
  ])('is compiled again if the kept file is %s, and the file is replaced', async (_, damage) => {
    const { file, load, kept } = setUp();
    load().keepCompiled();
    const [path = ''] = kept();
    damage(path);
    const damaged = statSync(path).ino;
    expect(await loadElsewhere(file)).toBe('42');
    const replaced = statSync(path);
    expect(replaced.ino).not.toBe(damaged);
    expect(replaced.mode & 0o777).toBe(0o600);
    expect(await loadElsewhere(file)).toBe('42'); // The next process accepts the new file, so it writes no other one.
    expect(statSync(path).ino).toBe(replaced.ino);
  });

  it('works even if no compiled code can be kept', () => {
    const dir = temporaryDirectory();
    writeFileSync(join(dir, 'main.cjs'), bundle(42));
    writeFileSync(join(dir, 'compiled'), 'a file, where a directory should be');
    const { exports, keepCompiled } = loadBundle(join(dir, 'main.cjs'), join(dir, 'compiled'), 'a');
    keepCompiled();
    expect((exports as { answer: () => number }).answer()).toBe(42);
  });
});
