// By what a thing on the host says to which box, and to which database, it belongs. Drivers mark what they make; the
// supervisor looks for what bears the mark of its database and belongs to no box. A home without a mark, or with
// another one, is nobody's business here.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DriverName } from '../settings/config.ts';

/** Set in the environment of every process on the host that works for a box, so that none can be lost. */
export const homeMark = 'BOXRUN_BOX_HOME';

/** The control group of a database, below the top of each hierarchy: in it one for each box. */
export function instanceCgroup(instanceId: string): string {
  return `boxrun-${instanceId.replace(/^inst_/, '').replace(/[^A-Za-z0-9_-]/g, '-')}`;
}

export interface HomeOwner {
  readonly instanceId: string;
  readonly driver: DriverName;
}

const ownerFile = 'owner.json';

/** Makes a home that says whose it is. */
export function makeMarkedHome(homeDir: string, { instanceId, driver }: HomeOwner): void {
  const path = join(homeDir, ownerFile);
  mkdirSync(homeDir, { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.part`, JSON.stringify({ instanceId, driver }), { mode: 0o600 });
  renameSync(`${path}.part`, path);
}

/** Null when the home does not say. */
export async function ownerOf(homeDir: string): Promise<HomeOwner | null> {
  const value = (await readFile(join(homeDir, ownerFile), 'utf8')
    .then(JSON.parse)
    .catch(() => null)) as Partial<HomeOwner> | null;
  const { instanceId, driver } = value ?? {};
  if (typeof instanceId !== 'string' || (driver !== 'boxlite' && driver !== 'container')) return null;
  return { instanceId, driver };
}
