// Resolves paths of the host that a box may mount, and checks that they are below an allowed directory. The check must
// be repeated before each mount, because a user can put a link into the path at any time.
import { constants } from 'node:fs';
import { open, readlink, realpath } from 'node:fs/promises';
import { BoxRunError } from '../errors.ts';

/** The flag O_PATH of open(2), for which Node has no name: it follows links, and opens nothing for reading. */
const O_PATH = 0o10_000_000;

/**
 * The path to which `path` leads, without links.
 * @param roots directories; the result must be below one of them. Without any, it may be anywhere
 * @throws RUNTIME_ERROR if the path does not exist, FORBIDDEN if it leads to another place
 */
export async function resolveHostPath(path: string, roots: readonly string[]): Promise<string> {
  const resolved = await followLinks(path);
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

/** The kernel follows all links in one call and says where they ended, so that nothing can change in between. */
async function followLinks(path: string): Promise<string> {
  const file = await open(path, O_PATH | constants.O_NONBLOCK).catch((error: unknown) => {
    throw new BoxRunError('RUNTIME_ERROR', `volume host path does not exist: ${path}`, { cause: error });
  });
  try {
    return await readlink(`/proc/self/fd/${file.fd}`);
  } finally {
    await file.close();
  }
}
