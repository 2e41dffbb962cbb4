// Marks on processes, control groups and homes that say to which box, or to which database, they belong. Drivers mark
// what they make. The supervisor may touch only things with the mark of its own database.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DriverName } from '../settings/config.ts';

/**
 * A variable in the environment of the processes that the container driver starts on the host for a box. The processes
 * of a VM do not have it: they name the home in their arguments (host-traces.ts).
 */
export const homeMark = 'BOXRUN_BOX_HOME';

/**
 * The name of the control group for all boxes of one database. It lies at the top of each cgroup hierarchy, and
 * contains one group for each box.
 */
export function instanceCgroup(instanceId: string): string {
  return `boxrun-${instanceId.replace(/^inst_/, '').replace(/[^A-Za-z0-9_-]/g, '-')}`;
}

export interface HomeOwner {
  readonly instanceId: string;
  readonly driver: DriverName;
}

const ownerFile = 'owner.json';

/** Makes the home of a box with a file that names its owner. */
export function makeMarkedHome(homeDir: string, { instanceId, driver }: HomeOwner): void {
  const path = join(homeDir, ownerFile);
  mkdirSync(homeDir, { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.part`, JSON.stringify({ instanceId, driver }), { mode: 0o600 });
  renameSync(`${path}.part`, path);
}

/** The owner that the home names, or null if it names none. */
export async function ownerOf(homeDir: string): Promise<HomeOwner | null> {
  const value = (await readFile(join(homeDir, ownerFile), 'utf8')
    .then(JSON.parse)
    .catch(() => null)) as Partial<HomeOwner> | null;
  const { instanceId, driver } = value ?? {};
  if (typeof instanceId !== 'string' || (driver !== 'boxlite' && driver !== 'container')) return null;
  return { instanceId, driver };
}
