// A file that only takes room on the disk. When the disk is full, the server removes it, so that boxes can still be
// removed and the database can be written. There is one file on each disk that the server writes to.
import { existsSync, rmSync, statSync } from 'node:fs';
import { open, rename, rm, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Config } from '../settings/config.ts';
import { limits } from '../limits.ts';

export interface DiskReserve {
  /** Makes the missing files, if the disk has enough free room. */
  refill(): Promise<void>;
  /** Removes the files. Returns false if there was none. */
  release(): boolean;
}

const pieceBytes = 1024 * 1024;

export function createDiskReserve({ stateDir, dbPath }: Pick<Config, 'stateDir' | 'dbPath'>): DiskReserve {
  const paths = [join(stateDir, 'reserve')];
  const beside = dirname(dbPath);
  if (existsSync(beside) && statSync(beside).dev !== statSync(stateDir).dev) paths.push(`${dbPath}.reserve`);
  return {
    async refill() {
      for (const path of paths) if (!existsSync(path)) await fill(path);
    },
    release() {
      const held = paths.filter((path) => existsSync(path));
      for (const path of held) rmSync(path, { force: true });
      return held.length > 0;
    },
  };
}

async function fill(path: string): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(path));
  if (bavail * bsize < limits.diskMarginBytes + 2 * limits.diskReserveBytes) return;
  const unfinished = `${path}.unfinished`;
  try {
    const file = await open(unfinished, 'w', 0o600);
    try {
      const piece = Buffer.alloc(pieceBytes);
      for (let bytes = 0; bytes < limits.diskReserveBytes; bytes += pieceBytes) await file.write(piece);
    } finally {
      await file.close();
    }
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
}
