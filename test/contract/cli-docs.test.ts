// Tests docs/cli.md against the command table and a real server: the page names every command and every flag, and its
// examples work unchanged. test/system/terminal.test.ts runs the examples that need a terminal.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { commandTable } from '../../src/cli/commands/command-table.ts';
import { eventually } from '../support/runs/eventually.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

const page = await readFile(join(import.meta.dirname, '../../docs/cli.md'), 'utf8');
const blocks = [...page.matchAll(/```sh(?: (\w+))?\n(.*?)```/gs)].map(([, kind, text]) => ({
  kind: kind ?? 'plain',
  text: text ?? '',
}));
const sections = new Map(
  page
    .split(/^### /m)
    .slice(1)
    .flatMap((section) => {
      const heading = section.split('\n', 1)[0] ?? '';
      return heading.split(', ').map((each) => [each.split(' ', 1)[0] ?? '', section] as const);
    }),
);

let server: TestServer;
let directory: string;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  server = await startServer({ maxCpu: 8 });
  directory = await mkdtemp(join(tmpdir(), 'boxrun-docs-'));
  await mkdir(join(directory, 'bin'));
  await writeFile(join(directory, 'bin/boxrun'), `#!/bin/sh\nexec "${process.execPath}" "${cliBundle}" "$@"\n`);
  await chmod(join(directory, 'bin/boxrun'), 0o755);
  env = { ...server.env, PATH: `${join(directory, 'bin')}:${process.env['PATH']}` };
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
  await server.close();
});

it.each(commandTable.map((spec) => [spec.name, spec] as const))(
  'docs/cli.md describes %s and all its flags',
  (name, spec) => {
    const section = sections.get(name) ?? '';
    const unknown = Object.keys(spec.options ?? {}).filter((flag) => !section.includes(`--${flag}`));
    expect({ name, found: section !== '', unknown }).toEqual({ name, found: true, unknown: [] });
  },
);

it('the examples in docs/cli.md work in their order', async () => {
  const plain = blocks.filter(({ kind }) => kind === 'plain');
  expect(plain.length).toBeGreaterThan(10);
  for (const { text } of plain) {
    const result = await new Promise<{ error: unknown; output: string }>((resolve) => {
      execFile('bash', ['--norc', '-euo', 'pipefail', '-c', text], { cwd: directory, env }, (error, stdout, stderr) => {
        resolve({ error: error?.message ?? null, output: `${stdout}${stderr}` });
      });
    });
    expect({ text, ...result }).toMatchObject({ error: null });
  }
  expect(await readFile(join(directory, 'copies/of/notes.txt'), 'utf8')).toBe('hello\n');
  expect(await readFile(join(directory, 'srv/more.txt'), 'utf8')).toBe('more\n');
}, 240_000);

it('the example of boxrun serve in docs/cli.md works', async () => {
  const [block] = blocks.filter(({ kind }) => kind === 'server');
  const stateDir = join(directory, 'state');
  const child = spawn('bash', ['-c', `exec ${(block?.text ?? '').replace('9191', '0')}`], {
    cwd: directory,
    env: { ...env, BOXRUN_STATE_DIR: stateDir, BOXRUN_WORKERS: '0' },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (piece: Buffer) => {
      said += piece.toString();
    });
  const ended = once(child, 'exit');
  await eventually('it listens', async () => said.includes('http://127.0.0.1:') || child.exitCode !== null, 30_000);
  child.kill('SIGTERM');
  expect({ code: (await ended)[0] as number | null, said }).toMatchObject({ code: 0 });
});
