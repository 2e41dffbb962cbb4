// Programs as users write them, run in a process of their own: they import `boxrun/sdk` from an installed package, and
// find the server by the variables. Used by the tests of the examples and of the documentation.
import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { TestServer } from '../support/servers/server.ts';

export const root = join(import.meta.dirname, '../..');
/** The venv of scripts/setup-compat.sh. */
export const python = join(root, 'node_modules/.cache/boxrun-compat/venv/bin/python');

/** Makes `directory` one where `boxrun` is installed: as this project, with what is in dist/. */
export async function installInto(directory: string): Promise<void> {
  await mkdir(join(directory, 'node_modules'), { recursive: true });
  await symlink(root, join(directory, 'node_modules/boxrun'));
}

export interface Program {
  readonly program: string;
  readonly file: string;
  /** Its text; as it is on disk when absent. */
  readonly text?: string;
}

/** What a program writes to stdout; rejects with its stderr when it fails. */
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
