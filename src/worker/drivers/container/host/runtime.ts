// The OCI runtime of this host: crun or else runc, the first one that really makes a container and runs a command in
// it. A trial takes some tenths of a second, so its result is kept in /run. After a boot or the upgrade of a runtime,
// there is a new trial.
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { BoxRunError } from '../../../../shared/errors.ts';
import { isUnified } from './cgroups.ts';
import { runtimeChoiceFile } from '../paths.ts';
import { findTool } from './tools.ts';

export type RuntimeName = 'crun' | 'runc';
export const runtimeNames: readonly RuntimeName[] = ['crun', 'runc'];

export interface OciRuntime {
  readonly name: RuntimeName;
  readonly path: string;
  /** crun refuses hosts that have both versions of control groups. There the monitor hides version 2 from crun. */
  readonly hideUnified: boolean;
  /** True if the runtime can mount volumes with mapped ids. */
  readonly mapsVolumes: boolean;
}

/** Returns the runtime of that name, or null if it is not installed. */
export async function findRuntime(name: RuntimeName): Promise<OciRuntime | null> {
  const path = await findTool(name);
  if (path === null) return null;
  const hybrid = !isUnified() && existsSync('/sys/fs/cgroup/unified');
  return { name, path, hideUnified: name === 'crun' && hybrid, mapsVolumes: name === 'crun' };
}

/** Uses a runtime on this host. Returns null on success, otherwise the problem. */
type TryOut = (runtime: OciRuntime) => Promise<string | null>;

let chosen: Promise<OciRuntime> | null = null;

/**
 * Returns the runtime to use. There is a trial only if no earlier result is valid.
 * @throws RUNTIME_ERROR when no runtime works
 */
export function chooseRuntime(tryOut: TryOut): Promise<OciRuntime> {
  chosen ??= remembered()
    .then((known) => known ?? firstWorkingRuntime(tryOut))
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
 * Tries the runtimes in order until one works, without regard to earlier results. Returns that one, and keeps the
 * result.
 * @throws RUNTIME_ERROR when no runtime works
 */
export async function firstWorkingRuntime(tryOut: TryOut): Promise<OciRuntime> {
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

/** Changes when a runtime is installed, removed or upgraded. */
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
