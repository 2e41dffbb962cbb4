// The BoxRun of an earlier commit, from test/fixtures/upgrade: its program, and a state directory as it left it.
// An installed program has a directory to itself. An upgrade puts the program of dist/ in its place, as npm does it.
import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../../..');
const fixtures = join(root, 'test/fixtures/upgrade');

/** What that commit serves at /openapi.json. */
export async function oldApiDocument(): Promise<unknown> {
  return JSON.parse(await readFile(join(fixtures, 'openapi.json'), 'utf8'));
}

/** Puts the old program into `directory`, which is made. Gives its command line's file. */
export async function installOldProgram(directory: string): Promise<string> {
  await unpack('program', directory);
  await linkPackages(directory);
  return join(directory, 'dist/cli.js');
}

/** Puts the program of dist/ in the place of that in `directory`. Processes go on with what they have loaded of it. */
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

/** Of a state directory of that commit: what it answered when its boxes had stopped. */
export interface OldAnswers {
  readonly boxes: readonly Readonly<Record<string, unknown>>[];
  /** By box. */
  readonly execs: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;
  /** By command: a stream of events. */
  readonly events: Readonly<Record<string, string>>;
}

/** Unpacks that state directory into `stateDir`. */
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

/** The packages that no bundle contains are the checkout's. */
async function linkPackages(directory: string): Promise<void> {
  await symlink(join(root, 'node_modules'), join(directory, 'node_modules'));
}
