// Temporary files of uploads whose file comes before its destination. Each file has its own directory in the state
// directory. The name of that directory says which gateway made it, so the next gateway can remove the files of a
// gateway that was killed.
import { mkdtemp, readdir, readFile, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { isAlive, processIdentity } from '../../shared/process/child-process.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';

export interface Spools {
  /** Makes a new directory for one file, and gives its path. */
  make(): Promise<string>;
  /** Passes `bytes` on while the disk has room. @throws RESOURCE_EXCEEDED when the free space is too small */
  withRoom(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void>;
}

/** @param freeDiskMb megabytes that must stay free on the disk of the state directory */
export function createSpools(stateDir: string, freeDiskMb: number): Spools {
  async function checkRoom(): Promise<void> {
    const { bavail, bsize } = await statfs(stateDir);
    if (bavail * bsize >= freeDiskMb * 1024 * 1024) return;
    throw new BoxRunError('RESOURCE_EXCEEDED', 'the disk of the server has no room for the file', {
      hint: "make room, or send the field 'dest' before the file: it then needs no room there",
    });
  }
  return {
    async make() {
      const own = await processIdentity(process.pid);
      return mkdtemp(join(stateDir, `upload-${process.pid}-${own?.startTicks ?? 0}-`));
    },
    async *withRoom(bytes) {
      let unchecked: number = limits.spoolCheckBytes;
      for await (const piece of bytes) {
        unchecked += piece.length;
        if (unchecked >= limits.spoolCheckBytes) {
          await checkRoom();
          unchecked = 0;
        }
        yield piece;
      }
    },
  };
}

/** Removes the directories of gateways that no longer run. */
export async function clearSpools(stateDir: string): Promise<void> {
  for (const name of await readdir(stateDir)) {
    if (!name.startsWith('upload-')) continue;
    const path = join(stateDir, name);
    const [, pid, startTicks] = /^upload-(\d+)-(\d+)-/.exec(name) ?? [];
    const isOwned =
      pid === undefined
        ? await isYoungerThanKeeper(path, stateDir)
        : await isAlive({ pid: Number(pid), startTicks: Number(startTicks) });
    if (!isOwned) await rm(path, { recursive: true, force: true });
  }
}

/**
 * Whether the directory is younger than the keeper. An older version of the gateway did not put its process id into the
 * name. Such a directory has no owner if it is older than the keeper, because gateways end with their keeper.
 */
async function isYoungerThanKeeper(path: string, stateDir: string): Promise<boolean> {
  const made = await stat(path).catch(() => null);
  const keeper = await readFile(statePaths(stateDir).keeperFile, 'utf8').catch(() => '{}');
  const since = Date.parse(String((JSON.parse(keeper) as { since?: unknown }).since));
  return made !== null && !(made.birthtimeMs < since);
}
