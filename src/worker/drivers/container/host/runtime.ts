// Which OCI runtime this host gets: crun, else runc, whichever really makes a container and runs a command in it. The
// answer is kept in /run, since a trial costs a few tenths of a second, and is asked for again after a boot or when a
// runtime is replaced.
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { BoxRunError } from '../../../../shared/errors.ts';
import { isUnified } from './cgroups.ts';
import { runtimeChoiceFile } from '../box/paths.ts';
import { findTool } from './tools.ts';

export type RuntimeName = 'crun' | 'runc';
export const runtimeNames: readonly RuntimeName[] = ['crun', 'runc'];

export interface OciRuntime {
  readonly name: RuntimeName;
  readonly path: string;
  /** crun refuses version 1 hierarchies with a unified one beside them: the monitor then hides it from crun. */
  readonly hideUnified: boolean;
  /** Whether volumes can be mounted with mapped ids. */
  readonly mapsVolumes: boolean;
}

/** The runtime of that name, or null where it is not installed. */
export async function findRuntime(name: RuntimeName): Promise<OciRuntime | null> {
  const path = await findTool(name);
  if (path === null) return null;
  const hybrid = !isUnified() && existsSync('/sys/fs/cgroup/unified');
  return { name, path, hideUnified: name === 'crun' && hybrid, mapsVolumes: name === 'crun' };
}

/** What is wrong with a runtime on this host, found out by using it; null when nothing is. */
type TryOut = (runtime: OciRuntime) => Promise<string | null>;

let chosen: Promise<OciRuntime> | null = null;

/**
 * The runtime to use. One is tried out only where no earlier answer holds.
 * @throws RUNTIME_ERROR when none works
 */
export function chooseRuntime(tryOut: TryOut): Promise<OciRuntime> {
  chosen ??= remembered()
    .then((known) => known ?? tryRuntimes(tryOut))
    .catch((error: unknown) => {
      chosen = null;
      throw error;
    });
  return chosen;
}

async function remembered(): Promise<OciRuntime | null> {
  const known = await rememberedName(await installedStamp());
  return known === null ? null : findRuntime(known);
}

/**
 * The first runtime that passes, whatever was known before; remembered for the next.
 * @throws RUNTIME_ERROR when none does
 */
export async function tryRuntimes(tryOut: TryOut): Promise<OciRuntime> {
  const stamp = await installedStamp();
  const reasons: string[] = [];
  for (const name of runtimeNames) {
    const candidate = await findRuntime(name);
    if (candidate === null) continue;
    const problem = await tryOut(candidate);
    if (problem === null) {
      await remember(name, stamp);
      return candidate;
    }
    reasons.push(`${name}: ${problem}`);
  }
  if (reasons.length === 0) {
    throw new BoxRunError('RUNTIME_ERROR', 'there is no OCI runtime on this host', {
      hint: 'install the package crun (apt install crun)',
    });
  }
  throw new BoxRunError('RUNTIME_ERROR', `no OCI runtime works on this host: ${reasons.join('; ')}`, {
    hint: 'run `boxrun doctor`; inside an unprivileged container the container driver cannot work',
  });
}

async function installedStamp(): Promise<string> {
  const parts: string[] = [];
  for (const name of runtimeNames) {
    const path = await findTool(name);
    const file = path === null ? null : await stat(path);
    parts.push(`${name}:${file === null ? 'none' : `${file.mtimeMs}:${file.size}`}`);
  }
  return parts.join(' ');
}

async function rememberedName(stamp: string): Promise<RuntimeName | null> {
  try {
    const saved = JSON.parse(await readFile(runtimeChoiceFile, 'utf8')) as { stamp?: unknown; name?: unknown };
    if (saved.stamp !== stamp) return null;
    return runtimeNames.find((name) => name === saved.name) ?? null;
  } catch {
    return null;
  }
}

async function remember(name: RuntimeName, stamp: string): Promise<void> {
  await mkdir(dirname(runtimeChoiceFile), { recursive: true, mode: 0o755 });
  const temporary = `${runtimeChoiceFile}.${process.pid}`;
  await writeFile(temporary, JSON.stringify({ name, stamp }), { mode: 0o600 });
  await rename(temporary, runtimeChoiceFile);
}
