// Where commands of one user keep compiled code: with the other caches of the user, since a command need not know any
// state directory.
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** Source of the rule: the XDG Base Directory Specification. */
export function compiledDirOfUser(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const given = env['XDG_CACHE_HOME'] ?? '';
  return join(isAbsolute(given) ? given : join(homedir(), '.cache'), 'boxrun', 'compiled');
}
