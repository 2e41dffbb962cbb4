// A file in which a process says which one it is, for whoever did not start it: a pid alone may have been given to
// another one since. Written by the process itself once it does its work; read by keeper, command line and tests. Of a
// dead process it means nothing.
import { readFile, rename, writeFile } from 'node:fs/promises';
import { Type } from 'typebox';
import { isAlive, processIdentity, type ProcessIdentity } from './child-process.ts';
import { fits } from '../ipc/contract.ts';

const Identity = Type.Object({ pid: Type.Integer(), startTicks: Type.Integer() });

/** Notes this process at `path`; `facts` stand beside its identity. */
export async function writeProcessFile(path: string, facts: Readonly<Record<string, unknown>> = {}): Promise<void> {
  const identity = await processIdentity(process.pid);
  await writeFile(`${path}.part`, JSON.stringify({ ...identity, ...facts }), { mode: 0o600 });
  await rename(`${path}.part`, path);
}

/** The process that the file at `path` names, if exactly that one lives. */
export async function livingProcess(path: string): Promise<ProcessIdentity | null> {
  const value: unknown = await readFile(path, 'utf8')
    .then(JSON.parse)
    .catch(() => null);
  if (!fits(Identity, value)) return null;
  const { pid, startTicks } = value as ProcessIdentity;
  return (await isAlive({ pid, startTicks })) ? { pid, startTicks } : null;
}
