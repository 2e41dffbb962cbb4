// The directory in which the commands of one user keep compiled code. It lies in the user's cache directory, because
// some commands run without a state directory.
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** Source of the rule: the XDG Base Directory Specification. It says that a relative XDG_CACHE_HOME is ignored. */
export function compiledDirOfUser(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const given = env['XDG_CACHE_HOME'] ?? '';
  return join(isAbsolute(given) ? given : join(homedir(), '.cache'), 'boxrun', 'compiled');
}
