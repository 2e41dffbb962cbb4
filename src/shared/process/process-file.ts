// A file that identifies a running process, for processes that are not its parent. The process itself writes the file.
// The file stays when the process dies, so a reader must check that exactly this process still lives.
import { readFile, rename, writeFile } from 'node:fs/promises';
import { isAlive, processIdentity, type ProcessIdentity } from './child-process.ts';

// The command line loads this file, so it checks without the schema library, which would take 10 ms to load.
function isIdentity(value: unknown): value is ProcessIdentity {
  const { pid, startTicks } = (value ?? {}) as Record<string, unknown>;
  return Number.isInteger(pid) && Number.isInteger(startTicks);
}

/** Writes the identity of this process to `path`, together with `facts`. */
export async function writeProcessFile(path: string, facts: Readonly<Record<string, unknown>> = {}): Promise<void> {
  const identity = await processIdentity(process.pid);
  await writeFile(`${path}.part`, JSON.stringify({ ...identity, ...facts }), { mode: 0o600 });
  await rename(`${path}.part`, path);
}

/** The process that the file at `path` names, or null if that process does not live. */
export async function livingProcess(path: string): Promise<ProcessIdentity | null> {
  const value: unknown = await readFile(path, 'utf8')
    .then(JSON.parse)
    .catch(() => null);
  if (!isIdentity(value)) return null;
  const { pid, startTicks } = value;
  return (await isAlive({ pid, startTicks })) ? { pid, startTicks } : null;
}
