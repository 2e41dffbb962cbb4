// Runs programs as users write them, each in its own process. A program imports `boxrun/sdk` from an installed package,
// and finds the server through the environment.
import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { TestServer } from '../support/servers/server.ts';

export const root = join(import.meta.dirname, '../..');
/** The Python of the venv that scripts/setup-compat.sh makes. */
export const python = join(root, 'node_modules/.cache/boxrun-compat/venv/bin/python');

/** Installs `boxrun` in `directory`, as a link to this project with its build in dist/. */
export async function installInto(directory: string): Promise<void> {
  await mkdir(join(directory, 'node_modules'), { recursive: true });
  await symlink(root, join(directory, 'node_modules/boxrun'));
}

export interface Program {
  readonly program: string;
  readonly file: string;
  /** The text of the program, which is written to `file` first. If it is absent, `file` must exist. */
  readonly text?: string;
}

/** Runs a program and returns its stdout. Rejects with its stderr if it fails. */
export async function runProgram(server: TestServer, { program, file, text }: Program): Promise<string> {
  if (text !== undefined) await writeFile(file, text);
  const { stdout } = await promisify(execFile)(program, [file], {
    cwd: dirname(file),
    env: {
      PATH: process.env['PATH'],
      HOME: server.stateDir,
      BOXRUN_HOST: '127.0.0.1',
      BOXRUN_PORT: String(server.port),
    },
    timeout: 60_000,
  });
  return stdout;
}
