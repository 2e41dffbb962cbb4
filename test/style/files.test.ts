// Tests the form of the files: short, named in kebab case, and with a header. No export is unused, and the project
// speaks only of itself.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readFiles, root, type SourceFile } from './sources.ts';

const sources = readFiles('src', '.ts', '.tsx');
const fixture = (path: string, text = ''): SourceFile => ({ path, text });

const linesMax = 430;
const widthMax = 120;
const openingLines = { least: 2, most: 6 };

function lengthProblems(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    const lines = text.split('\n').length - 1;
    return lines > linesMax ? [`${path} has ${lines} lines`] : [];
  });
}

/** The formatter breaks code, but not comments. An address in a comment cannot be broken. */
function widthProblems(files: readonly SourceFile[]): string[] {
  const isWideComment = (line: string) =>
    line.length > widthMax && /^\s*(\/\/|\/?\*|#|--)/.test(line) && !line.includes('://');
  return files.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, index) => (isWideComment(line) ? [`${path}:${index + 1}`] : [])),
  );
}

function nameProblems(files: readonly SourceFile[]): string[] {
  const kebab = /^[a-z0-9]+(-[a-z0-9]+)*(\.long)?(\.(test|config|d))?\.[a-z]+$/;
  return files.flatMap(({ path }) => {
    const parts = path.split('/');
    const name = parts.pop() ?? '';
    const good = kebab.test(name) && parts.every((part) => /^[a-z0-9]+(-[a-z0-9]+)*$/.test(part));
    return good ? [] : [path];
  });
}

function openingProblems(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    const lines = text.split('\n');
    const end = lines.findIndex((line) => !line.startsWith('//'));
    const count = end < 0 ? lines.length : end;
    return count >= openingLines.least && count <= openingLines.most
      ? []
      : [`${path} opens with ${count} lines of comment`];
  });
}

/**
 * Words that would tell where or with which tools the project was made. They are joined here, so that this file does
 * not contain them.
 */
const foreignWords = [
  ['/', 'work', '/'],
  ['/', 'Users', '/'],
  ['localhost', ':4873'],
  ['issues', ' show'],
  ['CON', 'TRACT.md'],
  ['DES', 'IGN.md'],
  ['ST', 'YLE.md'],
  ['Clau', 'de'],
  ['Anth', 'ropic'],
  ['Open', 'AI'],
  ['language', ' model'],
  ['Co-authored', '-by'],
].map((parts) => parts.join(''));

function foreignProblems(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ path, text }) =>
    foreignWords.filter((word) => text.includes(word)).map((word) => `${path} names ${word}`),
  );
}

function registryProblems(lockFile: string): string[] {
  const addresses = lockFile.match(/"resolved": "[^"]*/g) ?? [];
  return addresses.filter((address) => !address.startsWith('"resolved": "https://registry.npmjs.org/'));
}

describe('a source file', () => {
  it(`has ${linesMax} lines at most`, () => {
    expect(lengthProblems(sources)).toEqual([]);
    expect(lengthProblems([fixture('src/x.ts', '\n'.repeat(linesMax + 1))])).toHaveLength(1);
    expect(lengthProblems([fixture('src/x.ts', '\n'.repeat(linesMax))])).toEqual([]);
  });

  it(`has comments of ${widthMax} columns at most`, () => {
    const files = ['src', 'test', 'bench', 'scripts'].flatMap((directory) =>
      readFiles(directory, '.ts', '.tsx', '.mjs', '.c', '.h', '.sh', '.py'),
    );
    expect(widthProblems(files)).toEqual([]);
    expect(widthProblems([fixture('src/x.ts', `  // ${'x'.repeat(widthMax)}`)])).toEqual(['src/x.ts:1']);
    expect(widthProblems([fixture('src/x.ts', `// https://example.org/${'x'.repeat(widthMax)}`)])).toEqual([]);
  });

  it('is named in kebab case, and so are its directories', () => {
    expect(nameProblems([...sources, ...readFiles('test', '.ts', '.mjs'), ...readFiles('scripts')])).toEqual([]);
    const odd = [
      'src/shared/fooBar.ts',
      'src/Shared/foo.ts',
      'src/shared/foo_bar.ts',
      'src/shared/-foo.ts',
      'test/unit/a.spec.ts',
    ];
    expect(nameProblems(odd.map((path) => fixture(path)))).toEqual(odd);
    expect(nameProblems([fixture('src/shared/foo-bar.ts'), fixture('test/unit/x2.test.ts')])).toEqual([]);
  });

  it(`opens with a header of ${openingLines.least} to ${openingLines.most} lines`, () => {
    expect(openingProblems(sources)).toEqual([]);
    expect(openingProblems([fixture('src/x.ts', 'export const a = 1;\n')])).toHaveLength(1);
    expect(openingProblems([fixture('src/x.ts', '// One line.\nexport const a = 1;\n')])).toHaveLength(1);
    expect(openingProblems([fixture('src/x.ts', '// line\n'.repeat(7))])).toHaveLength(1);
    expect(
      openingProblems([fixture('src/x.ts', '// What it owns,\n// and what always holds.\nexport const a = 1;\n')]),
    ).toEqual([]);
  });
});

describe('the project', () => {
  it('speaks only of itself', () => {
    const files = ['src', 'test', 'scripts', 'docs', 'bin', '.ci'].flatMap((directory) => readFiles(directory));
    const top = readFiles('.');
    expect(top.map(({ path }) => path)).toContain('package.json');
    expect(foreignProblems([...files, ...top])).toEqual([]);
    for (const word of foreignWords) expect(foreignProblems([fixture('docs/x.md', `see ${word}x`)])).toHaveLength(1);
  });

  it('gets its packages only from the public registry', () => {
    expect(registryProblems(readFileSync(join(root, 'package-lock.json'), 'utf8'))).toEqual([]);
    expect(registryProblems('"resolved": "http://mirror.example/x.tgz"')).toHaveLength(1);
    expect(registryProblems('"resolved": "git+ssh://git@host.example/x.git"')).toHaveLength(1);
    expect(registryProblems('"resolved": "https://registry.npmjs.org/x/-/x-1.0.0.tgz"')).toEqual([]);
  });

  it('has no unused exports', () => {
    const { stdout, stderr, status } = spawnSync(
      join(root, 'node_modules/.bin/knip'),
      [
        '--include',
        'files,exports,types,duplicates,unresolved,unlisted',
        '--exclude',
        'binaries',
        '--no-progress',
        '--no-config-hints',
      ],
      { cwd: root, encoding: 'utf8' },
    );
    expect(`${stdout}${stderr}`.trim()).toBe('');
    expect(status).toBe(0);
  });
});
