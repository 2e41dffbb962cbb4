// Runs every example of docs/sdk.md against a real server. Each block is a program, and must print the text in the
// comments after its `console.log` or `print`. A block without imports gets `boxrun` and `box` from this test.
import { transform } from 'esbuild';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { installInto, python, root, runProgram } from './program.ts';

interface Block {
  readonly line: number;
  readonly language: string;
  readonly code: string;
}

function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map((match) => ({
    line: markdown.slice(0, match.index).split('\n').length,
    language: match[1] ?? '',
    code: match[2] ?? '',
  }));
}

const expectedOutput = (code: string) =>
  [...code.matchAll(/\b(?:console\.log|print)\(.*\);?\s*(?:\/\/|#) (.*)$/gm)]
    .map((match) => `${match[1] ?? ''}\n`)
    .join('');

const before = `import { BoxRun, BoxRunError } from 'boxrun/sdk';
const boxrun = new BoxRun();
const box = await boxrun.create({ image: 'base', cpu: 1, memory_mb: 128 });
try {
`;
const after = `
} finally {
  await box[Symbol.asyncDispose]();
  await boxrun.close();
}
`;

const blocks = blocksOf(readFileSync(join(root, 'docs/sdk.md'), 'utf8'));
let server: TestServer;
let directory: string;
beforeAll(async () => {
  server = await startServer();
  directory = await mkdtemp(join(tmpdir(), 'boxrun-docs-'));
  await installInto(directory);
});
afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

it('docs/sdk.md has examples in four languages', () => {
  expect(new Set(blocks.map(({ language }) => language))).toEqual(new Set(['sh', 'js', 'ts', 'python']));
});

const programs = blocks
  .filter(({ language }) => language !== 'sh')
  .map((block) => ({ name: `${block.language} in line ${block.line}`, ...block }));
it.each(programs)('the example in docs/sdk.md prints what it says: $name', async ({ language, code, line }) => {
  const expected = expectedOutput(code);
  if (language === 'python') {
    expect(await runProgram(server, { program: python, file: join(directory, `${line}.py`), text: code })).toBe(
      expected,
    );
  } else {
    const text = code.includes('import ') ? code : `${before}${code}${after}`;
    // Node 20 has no `await using` yet.
    const { code: runnable } = await transform(text, { loader: 'ts', target: 'node20', format: 'esm' });
    expect(
      await runProgram(server, { program: process.execPath, file: join(directory, `${line}.mjs`), text: runnable }),
    ).toBe(expected);
  }
  expect(await server.client.listBoxes()).toEqual([]);
});
