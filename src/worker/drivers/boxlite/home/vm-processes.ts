// The processes of a box's VM on the host: two nested bwrap processes, and in them the shim, which is the VM. They are
// found by the home of the box in their command lines. The engine only records the pid of the outer bwrap, and when
// that one dies alone, the VM runs on.
import { readdir, readFile, realpath } from 'node:fs/promises';
import { BoxRunError } from '../../../../shared/errors.ts';
import { killAndWait, processIdentity, type ProcessIdentity } from '../../../../shared/process/child-process.ts';

const killWaitMs = 5_000;
const killRounds = 20;

export interface VmProcess extends ProcessIdentity {
  /** True for the VM itself, false for the bwrap processes around it. */
  readonly isShim: boolean;
}

/** True when the command line belongs to the VM of one of these homes. Pure. */
export function belongsToHome(argv: readonly string[], homes: readonly string[]): boolean {
  const program = argv[0] ?? '';
  if (!/(^|\/)(bwrap|boxlite-shim)$/.test(program)) return false;
  return argv.some((arg) => homes.some((home) => arg.startsWith(`${home}/boxes/`)));
}

export async function findVmProcesses(homeDir: string): Promise<VmProcess[]> {
  const homes = [homeDir, await realpath(homeDir).catch(() => homeDir)];
  const found: VmProcess[] = [];
  for (const name of await readdir('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (!belongsToHome(argv, homes)) continue;
    const identity = await processIdentity(pid);
    if (identity !== null) found.push({ ...identity, isShim: argv[0]?.endsWith('/boxlite-shim') === true });
  }
  return found;
}

/**
 * Kills all processes of the home's VM, and waits until they have ended.
 * @returns how many processes were killed
 * @throws TIMEOUT when one does not die
 */
export async function killVmProcesses(homeDir: string): Promise<number> {
  let killed = 0;
  // bwrap may still start its next process while the first ones die, so the search is repeated.
  for (let round = 0; round < killRounds; round += 1) {
    const found = await findVmProcesses(homeDir);
    if (found.length === 0) return killed;
    killed += found.length;
    await Promise.all(found.map((each) => killAndWait(each, killWaitMs, 'a process of the VM')));
  }
  throw new BoxRunError('TIMEOUT', `new processes of the VM in ${homeDir} appear after each kill`);
}

/** Returns the CPU time and the resident memory of the VM. */
export async function vmUsage(shim: ProcessIdentity): Promise<{ cpuSeconds: number; memoryBytes: number }> {
  const stat = await readFile(`/proc/${shim.pid}/stat`, 'utf8');
  return parseUsage(stat);
}

/** Fields 14, 15 and 24 of proc(5)'s stat; pure. Linux counts 100 ticks a second and 4 KiB pages here. */
export function parseUsage(stat: string): { cpuSeconds: number; memoryBytes: number } {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const field = (number: number) => Number(fields[number - 3] ?? 0);
  return { cpuSeconds: (field(14) + field(15)) / 100, memoryBytes: field(24) * 4096 };
}
