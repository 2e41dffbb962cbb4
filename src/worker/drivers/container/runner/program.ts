// Finds our C program, which is the runner, copies terminals and makes ranges of ids: in dist/, built for this
// processor. There is none if the build had no C compiler. Then terminals fail, commands start without a runner, and
// boxes share one range of ids. The search runs once per process.
import { access, constants } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** scripts/build-runner.mjs gives the program this name. */
const fileName = `runner-linux-${process.arch}`;

let found: Promise<string | null> | null = null;

/** Returns the full path of the program, or null. */
export function findRunnerProgram(): Promise<string | null> {
  return (found ??= search(dirname(fileURLToPath(import.meta.url))));
}

/** Looks beside the running bundle or, when the sources run, in the project's dist/. */
async function search(from: string): Promise<string | null> {
  for (let dir = from; ; dir = dirname(dir)) {
    for (const path of [join(dir, fileName), join(dir, 'dist', fileName)])
      if (await hasAccess(path, constants.X_OK)) return path;
    if ((await hasAccess(join(dir, 'package.json'), constants.F_OK)) || dir === dirname(dir)) return null;
  }
}

function hasAccess(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
