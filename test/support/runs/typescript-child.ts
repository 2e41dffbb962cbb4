// Runs a piece of TypeScript against the sources of the project in a separate process, so that a test can kill it.
// The process is killed at the end of the test.
import { build } from 'esbuild';
import { spawn, type ChildProcess } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { temporaryDirectory } from './unit.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

export interface TypescriptChild {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Resolves with the next line that the process prints. */
  line(): Promise<string>;
  readonly exited: Promise<void>;
}

/**
 * Runs `source`, whose imports are relative to the root of the project (`./src/...`).
 * @param beside more programs for the same directory, by file name
 */
export async function runTypescript(
  source: string,
  beside: Readonly<Record<string, string>> = {},
): Promise<TypescriptChild> {
  const directory = temporaryDirectory();
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules')); // Some packages are not in the bundle.
  await Promise.all(
    Object.entries({ ...beside, 'child.mjs': source }).map(([name, contents]) =>
      bundle(contents, join(directory, name)),
    ),
  );
  const outfile = join(directory, 'child.mjs');
  const child = spawn(process.execPath, [outfile], { stdio: ['ignore', 'pipe', 'inherit'], cwd: root });
  const exited = new Promise<void>((resolve) =>
    child.once('exit', () => {
      resolve();
    }),
  );
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  const lines: string[] = [];
  const readers: ((line: string) => void)[] = [];
  let partial = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (piece: string) => {
    const parts = (partial + piece).split('\n');
    partial = parts.pop() ?? '';
    for (const part of parts) {
      const reader = readers.shift();
      if (reader === undefined) lines.push(part);
      else reader(part);
    }
  });
  return {
    child,
    pid: child.pid ?? -1,
    exited,
    line() {
      const ready = lines.shift();
      return ready === undefined ? new Promise((resolve) => readers.push(resolve)) : Promise.resolve(ready);
    },
  };
}

async function bundle(contents: string, outfile: string): Promise<void> {
  await build({
    stdin: { contents, resolveDir: root, loader: 'ts' },
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    logLevel: 'silent',
    external: ['better-sqlite3'],
    banner: {
      js: "import { createRequire as nodeRequire } from 'node:module'; const require = nodeRequire(import.meta.url);",
    },
  });
}
