// The last resort of a worker that must go while the writer is away: what is not acknowledged, in a file that the next
// supervisor sends on. Written by the worker, loaded and deleted by the supervisor.
import { open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Packr } from 'msgpackr';
import { Type, type Static } from 'typebox';
import { ExecChange } from '../contracts/writer.ts';
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
 * Writes durably: complete under its name, or not there at all. What a death leaves ends with the process id of whoever
 * wrote it.
 */
export async function writeSpill(dir: string, workerId: string, spill: Spill): Promise<void> {
  const path = join(dir, `${workerId}${suffix}`);
  const unnamed = `${path}.${process.pid}`;
  const file = await open(unnamed, 'w', 0o600);
  try {
    await file.writeFile(packr.pack(spill));
    await file.sync();
  } finally {
    await file.close();
  }
  faultPoint('worker.spill.unnamed');
  await rename(unnamed, path);
}

/** The spills in `dir`; `forget` deletes one once it is committed. A file that does not parse is left where it is. */
export async function readSpills(
  dir: string,
): Promise<{ path: string; spill: Spill | null; forget: () => Promise<void> }[]> {
  const names = (await readdir(dir)).filter((name) => name.endsWith(suffix));
  return Promise.all(
    names.map(async (name) => {
      const path = join(dir, name);
      const value: unknown = await readFile(path)
        .then((bytes) => packr.unpack(bytes) as unknown)
        .catch(() => null);
      return { path, spill: fits(Spill, value) ? (value as Spill) : null, forget: () => rm(path, { force: true }) };
    }),
  );
}
