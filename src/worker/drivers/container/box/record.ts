// The records of a box in its home: its image and disk from the creation on, and its processes while it runs. A new
// worker reads them and takes the box over. A file is replaced by a rename, so it is always complete. A missing or
// damaged file reads as null.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { ProcessIdentity } from '../../../../shared/process/child-process.ts';
import type { Disk } from '../disk/disk.ts';

/** Written once, when the disk is made. */
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
  /** The host's id of the box's root. Old records lack it: their boxes have the shared range. */
  readonly rootId?: number;
}

/** What the next worker needs to find the agent of the box. */
export interface AgentRecord {
  /** The control group of the agent, among those of the commands. */
  readonly group: string;
  readonly launcher: ProcessIdentity;
}

export function saveJson(path: string, value: BoxRecord | RunState | AgentRecord): void {
  const temporary = `${path}.new`;
  writeFileSync(temporary, JSON.stringify(value), { mode: 0o600 });
  renameSync(temporary, path);
}

export function loadJson<T extends BoxRecord | RunState | AgentRecord>(path: string): T | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch {
    return null;
  }
}
