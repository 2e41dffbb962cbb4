// Paths of the host that a box may mount: where they lead, and whether that is below a directory that the server
// allows. Asked by the supervisor when a box is made, and by its worker before each start: a link may have been swapped
// in meanwhile.
import { constants } from 'node:fs';
import { open, readlink, realpath } from 'node:fs/promises';
import { BoxRunError } from '../errors.ts';

/** Opens nothing for reading, follows links (open(2)); Node has no name for it. */
const O_PATH = 0o10_000_000;

/**
 * The path without any link in it.
 * @param roots directories below which it must lie; anywhere when there is none
 * @throws RUNTIME_ERROR when it is not there, FORBIDDEN when it leads elsewhere
 */
export async function resolveHostPath(path: string, roots: readonly string[]): Promise<string> {
  const resolved = await whereItLeads(path);
  if (roots.length === 0) return resolved;
  for (const root of roots) {
    const directory = await realpath(root).catch(() => null);
    if (
      directory !== null &&
      (resolved === directory || resolved.startsWith(directory === '/' ? '/' : `${directory}/`))
    )
      return resolved;
  }
  throw new BoxRunError(
    'FORBIDDEN',
    `volume host path ${path} leads to ${resolved}, where this server mounts nothing`,
    {
      hint: `it must lie below ${roots.join(' or ')} (--volume-root)`,
    },
  );
}

/** One walk of the kernel, and its word on where it ended: no component can change between two looks. */
async function whereItLeads(path: string): Promise<string> {
  const file = await open(path, O_PATH | constants.O_NONBLOCK).catch((error: unknown) => {
    throw new BoxRunError('RUNTIME_ERROR', `volume host path does not exist: ${path}`, { cause: error });
  });
  try {
    return await readlink(`/proc/self/fd/${file.fd}`);
  } finally {
    await file.close();
  }
}
