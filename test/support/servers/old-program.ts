// Installs the BoxRun of an earlier commit from test/fixtures/upgrade: its program, and a state directory that it left.
// The program has its own directory. An upgrade replaces that directory by the program of dist/, as npm does.
import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../../..');
const fixtures = join(root, 'test/fixtures/upgrade');

/** Returns the /openapi.json of that commit. */
export async function oldApiDocument(): Promise<unknown> {
  return JSON.parse(await readFile(join(fixtures, 'openapi.json'), 'utf8'));
}

/** Makes `directory` and unpacks the old program into it. Returns the file of its command line. */
export async function installOldProgram(directory: string): Promise<string> {
  await unpack('program', directory);
  await linkPackages(directory);
  return join(directory, 'dist/cli.js');
}

/** Replaces the program in `directory` by that of dist/. Running processes keep the code that they have loaded. */
export async function upgradeProgram(directory: string): Promise<void> {
  const next = `${directory}.next`;
  await mkdir(next);
  const isNeeded = (path: string) =>
    !path.endsWith('.map') && !path.includes('/dist/types') && !path.includes('/dist/ui');
  for (const part of ['bin', 'dist', 'package.json'])
    await cp(join(root, part), join(next, part), { recursive: true, filter: isNeeded });
  await linkPackages(next);
  await rename(directory, `${directory}.old`);
  await rename(next, directory);
  await rm(`${directory}.old`, { recursive: true });
}

/** The answers of that commit for its state directory, after its boxes were stopped. */
export interface OldAnswers {
  readonly boxes: readonly Readonly<Record<string, unknown>>[];
  /** By box id. */
  readonly execs: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;
  /** The text of the output stream, by command id. */
  readonly events: Readonly<Record<string, string>>;
}

/** Unpacks the state directory of that commit into `stateDir`. */
export async function unpackOldState(stateDir: string): Promise<OldAnswers> {
  await unpack('state', stateDir);
  const directory = join(stateDir, 'answers');
  const names = await readdir(directory);
  const read = (name: string) => readFile(join(directory, name), 'utf8');
  const readAll = async <T>(pattern: RegExp, parse: (text: string) => T): Promise<Record<string, T>> => {
    const entries = names.flatMap((name) => {
      const id = pattern.exec(name)?.[1];
      return id === undefined ? [] : [read(name).then((text) => [id, parse(text)] as const)];
    });
    return Object.fromEntries(await Promise.all(entries));
  };
  const parseRows = (text: string) => JSON.parse(text) as Record<string, unknown>[];
  const answers = {
    boxes: parseRows(await read('boxes.json')),
    execs: await readAll(/^execs-(.*)\.json$/, parseRows),
    events: await readAll(/^events-(.*)\.txt$/, (text) => text),
  };
  await rm(directory, { recursive: true });
  return answers;
}

async function unpack(name: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  await run('tar', ['--extract', '--xz', '--file', join(fixtures, `${name}.tar.xz`), '--directory', directory]);
}

/** Links node_modules of this checkout, because some packages are not in the bundles. */
async function linkPackages(directory: string): Promise<void> {
  await symlink(join(root, 'node_modules'), join(directory, 'node_modules'));
}
