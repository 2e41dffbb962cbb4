// Finds our two C programs in dist/, built for this processor: the agent that lives in boxes, and the host program for
// terminals and ranges of ids. They are missing if the build had no C compiler. Then each command costs a start of the
// OCI runtime, terminals fail, and boxes share one range of ids.
import { access, constants } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Version of the arguments and reports of the host program. */
export const hostProgramVersion = '1';

/** scripts/build-programs.mjs gives the programs these names. */
const fileNames = { agent: `agent-linux-${process.arch}`, host: `runner-linux-${process.arch}` };

const found = new Map<string, Promise<string | null>>();

/** Returns the full path of the program, or null. The search runs once per process. */
export function findProgram(which: keyof typeof fileNames): Promise<string | null> {
  const known = found.get(which);
  if (known !== undefined) return known;
  const searching = search(fileNames[which], dirname(fileURLToPath(import.meta.url)));
  found.set(which, searching);
  return searching;
}

/** Looks beside the running bundle or, when the sources run, in the project's dist/. */
async function search(fileName: string, from: string): Promise<string | null> {
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
