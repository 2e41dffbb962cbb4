// Files of uploads that come before their destination: each in a directory of the state directory that is named after
// the gateway whose upload it is. What a gateway leaves there when it is killed, the next one removes.
import { mkdtemp, readdir, readFile, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { isAlive, processIdentity } from '../../shared/process/child-process.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';

export interface Spools {
  /** A new directory for one file. */
  make(): Promise<string>;
  /** The bytes as they come, as long as the disk has room for them. @throws RESOURCE_EXCEEDED */
  withRoom(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void>;
}

/** @param freeDiskMb that uploads leave on the disk */
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

/** Removes what no living gateway owns. */
export async function clearSpools(stateDir: string): Promise<void> {
  for (const name of await readdir(stateDir)) {
    if (!name.startsWith('upload-')) continue;
    const path = join(stateDir, name);
    const [, pid, startTicks] = /^upload-(\d+)-(\d+)-/.exec(name) ?? [];
    const isOwned =
      pid === undefined
        ? await isYounger(path, stateDir)
        : await isAlive({ pid: Number(pid), startTicks: Number(startTicks) });
    if (!isOwned) await rm(path, { recursive: true, force: true });
  }
}

/**
 * A gateway of the version before did not name what it made: what is older than the keeper is of none that lives, since
 * gateways end with their keeper.
 */
async function isYounger(path: string, stateDir: string): Promise<boolean> {
  const made = await stat(path).catch(() => null);
  const keeper = await readFile(statePaths(stateDir).keeperFile, 'utf8').catch(() => '{}');
  const since = Date.parse(String((JSON.parse(keeper) as { since?: unknown }).since));
  return made !== null && !(made.birthtimeMs < since);
}
