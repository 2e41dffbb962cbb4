// What this driver writes down about a box in its home: at creation (image, disk), and while it runs (which processes
// hold it), so that a new worker can take over. Written whole by rename; read leniently, since a worker may have died
// at any moment.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { ProcessIdentity } from '../../../../shared/process/child-process.ts';
import type { Disk } from '../disk/disk.ts';

/** Made once, with the disk. */
export interface BoxRecord {
  readonly digest: string;
  readonly disk: Disk;
}

/** The processes on the host that make up a running box. */
export interface RunState {
  readonly init: ProcessIdentity;
  readonly monitor: ProcessIdentity;
  readonly network: ProcessIdentity | null;
  readonly runtime: string;
  /** The host's id of the box's root; absent in records of an earlier version: then that of the shared range. */
  readonly rootId?: number;
}

export function saveJson(path: string, value: BoxRecord | RunState): void {
  const temporary = `${path}.new`;
  writeFileSync(temporary, JSON.stringify(value), { mode: 0o600 });
  renameSync(temporary, path);
}

export function loadJson<T extends BoxRecord | RunState>(path: string): T | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch {
    return null;
  }
}
