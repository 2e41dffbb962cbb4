// Finds processes inside a box of the container driver, with their pids on the host.
// A process is recognized by its own pid namespace.
import { readdir, readFile, readlink } from 'node:fs/promises';
import { eventually } from '../runs/eventually.ts';

/** Waits for a process inside a box that has `marker` in its environment. Returns its pid on the host. */
export async function pidInBox(marker: string): Promise<number> {
  return eventually(`a process with ${marker}`, async () => {
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
      const status = environment.includes(marker) ? await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '') : '';
      // NSpid has two numbers if the process is in a pid namespace of its own.
      if (/^NSpid:\t\d+\t\d+/m.test(status)) return Number(pid);
    }
    return null;
  });
}

/** Finds the init (process 1) of the pid namespace of `pid`. Returns its pid on the host. */
export async function initOf(pid: number): Promise<number> {
  const namespace = await readlink(`/proc/${pid}/ns/pid`);
  for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const same = (await readlink(`/proc/${name}/ns/pid`).catch(() => '')) === namespace;
    if (same && /^NSpid:\t\d+\t1$/m.test(await readFile(`/proc/${name}/status`, 'utf8'))) return Number(name);
  }
  throw new Error('no init found');
}
