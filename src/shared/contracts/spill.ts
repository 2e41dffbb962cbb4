// Spills: a worker that must end while the writer is away leaves its unacknowledged changes in a file. A supervisor
// sends them to the writer before the box gets another lease. A file that ends with `.spill` is always complete.
import { open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Packr } from 'msgpackr';
import { Type, type Static } from 'typebox';
import { ExecChange } from './writer.ts';
import { faultPoint } from '../faults/fault.ts';
import { fits } from '../ipc/contract.ts';

const Spill = Type.Object({
  boxId: Type.String(),
  generation: Type.Integer(),
  changes: Type.Array(ExecChange),
});
export type Spill = Static<typeof Spill>;

const packr = new Packr({ useRecords: false });
const suffix = '.spill';

/**
 * Writes a spill to the disk. The file is `ID.spill.PID` until it is complete. If the worker dies before that, no
 * one reads this file, and a sweep removes it (stray-files.ts).
 */
export async function writeSpill(dir: string, workerId: string, spill: Spill): Promise<void> {
  const path = join(dir, `${workerId}${suffix}`);
  const unfinished = `${path}.${process.pid}`;
  const file = await open(unfinished, 'w', 0o600);
  try {
    await file.writeFile(packr.pack(spill));
    await file.sync();
  } finally {
    await file.close();
  }
  faultPoint('worker.spill.unnamed');
  await rename(unfinished, path);
}

/**
 * Reads the spills in `dir`. `remove` deletes the file; call it when the writer has committed or refused the spill.
 * `spill` is null if the file does not parse.
 */
export async function readSpills(
  dir: string,
): Promise<{ path: string; spill: Spill | null; remove: () => Promise<void> }[]> {
  const names = (await readdir(dir)).filter((name) => name.endsWith(suffix));
  return Promise.all(
    names.map(async (name) => {
      const path = join(dir, name);
      const value: unknown = await readFile(path)
        .then((bytes) => packr.unpack(bytes) as unknown)
        .catch(() => null);
      return { path, spill: fits(Spill, value) ? (value as Spill) : null, remove: () => rm(path, { force: true }) };
    }),
  );
}
