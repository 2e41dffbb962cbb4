// Where the runner's program is: in dist/, built for this processor, or nowhere, where there was no compiler. tools.ts
// copies it into the directory that boxes see; runner.ts starts it through the copy on the host's side.
import { access, constants } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** build-runner.mjs gives it this name. */
const fileName = `runner-linux-${process.arch}`;

let found: Promise<string | null> | null = null;

/** Full path of the program, or null. */
export function findRunnerProgram(): Promise<string | null> {
  return (found ??= search(dirname(fileURLToPath(import.meta.url))));
}

/** Beside the bundle that runs; or, run from the sources, in the project's dist. */
async function search(from: string): Promise<string | null> {
  for (let dir = from; ; dir = dirname(dir)) {
    for (const path of [join(dir, fileName), join(dir, 'dist', fileName)])
      if (await is(path, constants.X_OK)) return path;
    if ((await is(join(dir, 'package.json'), constants.F_OK)) || dir === dirname(dir)) return null;
  }
}

function is(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
